package main

import (
	"context"
	"flag"
	"io"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest"
)

const benchBootUsage = `Usage: testbed bench-boot [flags]

Measures how fast an arm64 Linux guest reads a disk through the SMMU, with strict invalidation: in the VMM of the test
boot, and in QEMU with its own SMMUv3 and a virtio-blk disk. Guest and disk are the same in both. Both run alternately
on the same KVM: that of this machine if it is an arm64 machine with /dev/kvm, otherwise that of an emulated host.

Prints bytes per second by the guest's own clock, the best of several reads of each block size, and the ratio: above 1
ours is faster. All files are checked before anything boots.

Flags:
`

func benchBootCommand(args []string, stdout, stderr io.Writer) int {
	o, err := parseBenchBoot(args, stdout)
	if code, done := program.Parsed(err, "bench-boot", stderr); done {
		return code
	}
	return follow(stdout, stderr, o.Report, func(ctx context.Context) (failure string, err error) {
		b, err := boottest.Bench(ctx, o)
		if err != nil {
			return "", err
		}
		return b.Error, nil
	})
}

func parseBenchBoot(args []string, stdout io.Writer) (boottest.Options, error) {
	o := boottest.Options{
		Out: stdout, Transport: "pci", Firmware: "dt", PASIDBits: defaultPASIDBits, Stage: 1, Timeout: 20 * time.Minute,
	}
	f := flag.NewFlagSet("bench-boot", flag.ContinueOnError)
	machineFlags(f, &o, "bench-boot")
	f.StringVar(&o.Peer, "peer", "",
		"compare with the QEMU of the arm64 system below `DIR`\n(default: what make bench-boot fetched)")
	f.UintVar(&o.Rounds, "rounds", 2, "boot each guest `N` times")
	return o, parse(f, &o, args, benchBootUsage, stdout)
}

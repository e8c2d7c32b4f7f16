package main

import (
	"context"
	"flag"
	"io"
	"path/filepath"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"

	"github.com/go-vsmmu/vsmmuv3/testbed/labtest"
)

const labUsage = `Usage: testbed lab -kernel IMAGE [flags]

Has QEMU emulate an arm64 host whose SMMUv3 nests, and proves on the kernel given, which needs iommufd and KVM, that a
guest's stage 1 is carried out there: the conformance suite runs against bridge/iommufd with a device that does DMA, and
a Linux guest in our VMM has an NVMe disk passed through, with an emulated disk beside it. What the emulated hardware does
not have is not run, and named.

Flags:
`

func labCommand(args []string, stdout, stderr io.Writer) int {
	o, err := parseLab(args, stdout)
	if code, done := program.Parsed(err, "lab", stderr); done {
		return code
	}
	var r *labtest.Report
	code := follow(stdout, stderr, o.Report, func(ctx context.Context) (failure string, err error) {
		if r, err = labtest.Run(ctx, o); err != nil {
			return "", err
		}
		return r.Error, nil
	})
	if code == cli.OK && !r.OK {
		return cli.Failed
	}
	return code
}

func parseLab(args []string, stdout io.Writer) (labtest.Options, error) {
	o := labtest.Options{Out: stdout}
	f := flag.NewFlagSet("lab", flag.ContinueOnError)
	f.StringVar(&o.Kernel, "kernel", "", "the host's kernel, `IMAGE`")
	f.StringVar(&o.Tests, "tests", "", "bridge/iommufd's tests for linux/arm64, `FILE` (default: the ones built by make lab)")
	f.StringVar(&o.VMMTests, "vmm-tests", "", "the test VMM's tests for linux/arm64, `FILE` (default: the ones built by make lab)")
	f.StringVar(&o.Agent, "agent", "", "the build of this program for linux/arm64, `FILE` (default: testbed-linux-arm64 beside it)")
	f.StringVar(&o.QEMU, "qemu", "", "the emulator, QEMU 9.1 or later, `FILE` (default: the one fetched by make lab)")
	f.StringVar(&o.Firmware, "firmware", "", "QEMU_EFI.fd, `FILE` (default: the one fetched by make lab)")
	f.StringVar(&o.Report, "report", filepath.Join("build", "lab", "report.json"), "where the report goes, `FILE`")
	f.DurationVar(&o.Timeout, "timeout", time.Hour, "the `TIME` after which it is given up")
	return o, parseFlags(f, &o.Timeout, args, labUsage, stdout)
}

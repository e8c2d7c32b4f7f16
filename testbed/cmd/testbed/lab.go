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

Tests bridge/iommufd on a real kernel. QEMU emulates an arm64 host whose SMMUv3 nests. On the given kernel, the
conformance suite runs against bridge/iommufd with a device that does DMA, and a Linux guest in the test VMM uses an
NVMe disk that is passed through, beside an emulated disk. Tests that the emulated hardware cannot support are skipped
and listed.

Flags:
`

func labCommand(args []string, stdout, stderr io.Writer) int {
	o, check, err := parseLab(args, stdout)
	if code, done := program.Parsed(err, "lab", stderr); done {
		return code
	}
	if check {
		if err := labtest.Check(context.Background(), o); err != nil {
			return complain(stderr, err)
		}
		return cli.OK
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

func parseLab(args []string, stdout io.Writer) (o labtest.Options, check bool, err error) {
	o.Out = stdout
	f := flag.NewFlagSet("lab", flag.ContinueOnError)
	f.StringVar(&o.Kernel, "kernel", "",
		"boot host and guest with the arm64 kernel `IMAGE`, which has the options of testdata/lab/kernel.config")
	f.StringVar(&o.Tests, "tests", "",
		"run bridge/iommufd's tests for linux/arm64 in `FILE` (default: those that make lab built)")
	f.StringVar(&o.VMMTests, "vmm-tests", "",
		"run the test VMM's tests for linux/arm64 in `FILE` (default: those that make lab built)")
	f.StringVar(&o.Agent, "agent", "",
		"use `FILE`, the build of this program for linux/arm64 (default: testbed-linux-arm64 beside it)")
	f.StringVar(&o.QEMU, "qemu", "", "use the emulator `FILE`, QEMU 9.1 or later (default: what make lab fetched)")
	f.StringVar(&o.Firmware, "firmware", "", "use the firmware `FILE`, a QEMU_EFI.fd (default: what make lab fetched)")
	f.StringVar(&o.Report, "report", filepath.Join("build", "lab", "report.json"), "write the report to `FILE`")
	f.StringVar(&o.Only, "only", "", "run one machine alone: "+labtest.MachineNames())
	f.StringVar(&o.Run, "run", "", "with -only: run the tests that match `REGEXP`")
	o.IDs = labtest.IDs{}
	f.Var(o.IDs, "id", "with -only own…: `FIELD=VALUE` of the SMMU's ID registers, such as OAS=6; may be repeated")
	f.DurationVar(&o.Timeout, "timeout", time.Hour, "give up after `TIME`")
	f.BoolVar(&check, "check", false,
		"check the given files and run nothing, as make lab does before it builds the tests")
	err = parseFlags(f, &o.Timeout, args, labUsage, stdout)
	return o, check, err
}

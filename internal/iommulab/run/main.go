// Command run runs a program on package iommulab's machine.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/iommulab"
)

func main() {
	o := iommulab.Options{Console: os.Stdout}
	flag.StringVar(&o.QEMU, "qemu", "qemu-system-aarch64", "QEMU 9.1 or later")
	data := flag.String("qemu-data", "", "where QEMU's own files are, if not where it looks for them")
	flag.StringVar(&o.Firmware, "firmware", "/usr/share/qemu-efi-aarch64/QEMU_EFI.fd", "EFI firmware, of the package qemu-efi-aarch64")
	flag.StringVar(&o.Kernel, "kernel", "", "arm64 kernel with iommufd")
	flag.StringVar(&o.Program, "program", "", "static linux/arm64 program")
	flag.DurationVar(&o.Timeout, "timeout", 5*time.Minute, "how long all of it may take")
	flag.Parse()
	o.Args = flag.Args()
	if *data != "" {
		o.QEMUArgs = []string{"-L", *data}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := iommulab.Run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "iommulab:", err)
		os.Exit(1)
	}
}

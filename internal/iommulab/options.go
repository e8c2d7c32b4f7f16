package iommulab

import (
	"io"
	"time"
)

// Options say what to run, and with what.
type Options struct {
	QEMU     string   // qemu-system-aarch64
	QEMUArgs []string // more for it, such as -L where its data is
	Firmware string   // QEMU_EFI.fd
	Kernel   string   // arm64 Image, plain or compressed by gzip
	Program  string   // static linux/arm64 program that calls machine.Main: a test binary
	Args     []string // for the program
	Timeout  time.Duration
	Console  io.Writer // gets every line
}

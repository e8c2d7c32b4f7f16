// Package kvm is a thin, typed layer over Linux's KVM interface (Documentation/virt/kvm/api.rst),
// as far as an arm64 virtual machine needs it: memory, vCPUs, a GICv3 with its ITS, and interrupts
// by line, message and eventfd.
//
// The structures and numbers are the same on every 64-bit Linux, so that the package also builds,
// and its layouts are tested, on amd64. It runs only on arm64.
package kvm

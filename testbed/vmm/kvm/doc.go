// Package kvm is a thin, typed layer over Linux's KVM interface (Documentation/virt/kvm/api.rst),
// as far as an arm64 virtual machine needs it: memory, vCPUs, a GICv3 with its ITS, and interrupts
// by line, message and eventfd.
//
// The structures and numbers are the same on every 64-bit Linux. The package therefore also builds
// on amd64, where tests check its layouts. It runs only on arm64.
package kvm

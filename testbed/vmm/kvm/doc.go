// Package kvm is the part of Linux's KVM interface that an arm64 virtual machine needs: memory, vCPUs, a GICv3 with its ITS,
// interrupts by line, by message and by eventfd. It is a thin, typed layer over the system calls of
// Documentation/virt/kvm/api.rst and keeps no policy.
//
// The structures and numbers are the same on every 64-bit Linux, so the package builds (and is checked) on amd64 too;
// what it asks for exists on arm64 only.
package kvm

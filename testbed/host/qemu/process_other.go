//go:build !linux

package qemu

import "syscall"

const passesByDescriptor = false

func processAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

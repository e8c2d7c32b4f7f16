package qemu

import "syscall"

// passesByDescriptor is true where a process can open a file that it inherited, by its descriptor.
const passesByDescriptor = true

func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

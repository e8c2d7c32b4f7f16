package qemu

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a child in a process group of its own, so that a Ctrl-C meant for the runner does not reach it.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd, make(chan struct{})}
	cmd.SysProcAttr = processAttributes()
	started := make(chan error)
	go func() {
		// The kernel's parent-death signal is that of the thread which started the child: it lives as long.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			// Not Wait, which would close the pipes while they are still read.
			_, _ = cmd.Process.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

// waitFor waits until the child ends, but no longer than this.
func (p *process) waitFor(timeout time.Duration) {
	select {
	case <-p.done:
	case <-time.After(timeout):
	}
}

// kill ends the child, if it has not ended, and waits until it is gone.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// channelPair returns the two ends of a stream: ours, and one for a child.
func channelPair() (ours, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	// Ours in non-blocking mode, so that closing it ends a read.
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "channel"), os.NewFile(uintptr(fds[1]), "channel"), nil
}

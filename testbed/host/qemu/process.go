package qemu

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a child in a process group of its own, so that a Ctrl-C for the runner does not reach
// it.
type process struct {
	cmd   *exec.Cmd
	done  chan struct{}
	state *os.ProcessState // valid once done is closed
}

func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	cmd.SysProcAttr = processAttributes()
	started := make(chan error)
	go func() {
		// The kernel sends the parent-death signal when the thread that started the child exits.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			// cmd.Wait would close the pipes while they are still read.
			p.state, _ = cmd.Process.Wait()
			close(p.done)
		}
	}()
	return p, <-started
}

// waitFor waits until the child exits, at most for timeout, and reports whether the child has
// exited.
func (p *process) waitFor(timeout time.Duration) bool {
	select {
	case <-p.done:
		return true
	case <-time.After(timeout):
		return false
	}
}

// kill kills the child unless it has exited, and waits for it.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// channelPair returns the two ends of a stream: ours and the child's.
func channelPair() (ours, theirs *os.File, err error) {
	fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	syscall.CloseOnExec(fds[0])
	syscall.CloseOnExec(fds[1])
	// In non-blocking mode, a Close ends a read.
	if err := syscall.SetNonblock(fds[0], true); err != nil {
		return nil, nil, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(fds[0]), "channel"), os.NewFile(uintptr(fds[1]), "channel"), nil
}

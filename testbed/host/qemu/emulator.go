// Package qemu runs an arm64 machine in QEMU. It forwards the machine's consoles and connects the
// caller to its channel.
package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
)

// Machine is an arm64 machine with the files that are loaded into its memory.
type Machine struct {
	QEMU    string   // the emulator's binary
	Args    []string // processors, memory, devices
	Image   []byte
	Initrd  []byte
	Cmdline string
}

// PortName is the name of the virtio-serial port at the machine's end of the channel.
const PortName = "org.vsmmu.channel"

// Heard is the line that acknowledges a machine's last message. The machine powers off only after
// this line, since QEMU discards unread messages when it exits.
const Heard = "heard"

// Names of the consoles: the machine's, and QEMU's standard error.
const (
	HostConsole = "host"
	QEMUConsole = "qemu"
)

const (
	// maxLine bounds a line of a console.
	maxLine = 4 << 10
	// powerOffGrace is the time that a machine has to power off after its last message.
	powerOffGrace = 10 * time.Second
	// exitGrace is the time that QEMU has to exit after the channel has ended.
	exitGrace = 2 * time.Second
)

// ErrStart is matched by Run's error if QEMU was not started.
var ErrStart = errors.New("the machine was not started")

// ExitError is in Run's error if QEMU exited before talk was done.
type ExitError struct {
	Err    error // of talk
	Status *os.ProcessState
}

func (e *ExitError) Error() string { return fmt.Sprintf("%v (QEMU: %v)", e.Err, e.Status) }
func (e *ExitError) Unwrap() error { return e.Err }

// Run starts the machine, calls line for each line of its consoles, and calls talk with the
// channel. When talk returns nil, the machine gets time to power off. When ctx ends, Run kills QEMU
// and returns the cause. On return no process and no file is left.
func (m *Machine) Run(
	ctx context.Context, line func(console, text string), talk func(channel io.ReadWriter) error,
) error {
	dir, err := os.MkdirTemp("", "vsmmu-")
	if err != nil {
		return fmt.Errorf("%w: create a directory for QEMU's files (set TMPDIR to use another directory): %w", ErrStart, err)
	}
	defer os.RemoveAll(dir)
	if err := cli.CheckSpace(dir, uint64(len(m.Image)+len(m.Initrd))); err != nil {
		return fmt.Errorf("%w: the machine's kernel and initramfs: %w (set TMPDIR to use another directory)", ErrStart, err)
	}
	image, initrd := filepath.Join(dir, "image"), filepath.Join(dir, "initrd")
	for name, data := range map[string][]byte{image: m.Image, initrd: m.Initrd} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return fmt.Errorf("%w: %w (set TMPDIR to use another directory)", ErrStart, err)
		}
	}
	ours, theirs, err := channelPair()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	defer ours.Close()
	cmd := exec.Command(m.QEMU, append(m.Args,
		"-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
		"-device", "virtio-serial-device", "-chardev", "socket,id=channel,fd=3",
		"-device", "virtserialport,chardev=channel,name="+PortName,
		"-kernel", image, "-initrd", initrd, "-append", m.Cmdline)...)
	cmd.ExtraFiles = []*os.File{theirs} // its descriptor 3
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return errors.Join(ErrStart, err, theirs.Close())
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return errors.Join(ErrStart, err, theirs.Close())
	}
	qemu, err := startProcess(cmd)
	theirs.Close()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}

	consoles := make(chan struct{}, 2)
	follow := func(name string, r io.Reader) {
		w := console.Writer{Max: maxLine, Emit: func(text string) { line(name, text) }}
		_, _ = io.Copy(&w, r) // ends when QEMU has closed the pipe
		w.Flush()
		consoles <- struct{}{}
	}
	go follow(HostConsole, stdout)
	go follow(QEMUConsole, stderr)
	said := make(chan error, 1)
	go func() { said <- talk(ours) }()

	select {
	case err = <-said:
		if err == nil {
			_, _ = io.WriteString(ours, Heard+"\n") // fails if the machine is gone, which is no error here
			qemu.waitFor(powerOffGrace)
		} else if qemu.waitFor(exitGrace) {
			err = &ExitError{err, qemu.state}
		}
		qemu.kill()
	case <-ctx.Done():
		err = context.Cause(ctx)
		qemu.kill()
		ours.Close() // ends talk's reads and writes
		<-said
	}
	<-consoles
	<-consoles
	return err
}

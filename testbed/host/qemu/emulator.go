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
	"slices"
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

	files []*os.File // that QEMU inherits, from firstFile on
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

// CheckSpace returns an error if TMPDIR does not exist or has no room for the machine's files.
func (m *Machine) CheckSpace() error {
	dir := os.TempDir()
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("the directory for QEMU's files: %w (set TMPDIR to use another directory)", err)
	}
	if err := cli.CheckSpace(dir, uint64(len(m.Image)+len(m.Initrd))); err != nil {
		return fmt.Errorf("the machine's kernel and initramfs: %w (set TMPDIR to use another directory)", err)
	}
	return nil
}

// Run starts the machine, calls line for each line of its consoles, and calls talk with the
// channel. When talk returns nil, the machine gets time to power off. When ctx ends, Run kills QEMU
// and returns the cause. On return no process and no file is left. If a signal kills this process,
// Linux kills QEMU, and no file is left either.
func (m *Machine) Run(
	ctx context.Context, line func(console, text string), talk func(channel io.ReadWriter) error,
) error {
	if err := m.CheckSpace(); err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	with := Machine{files: slices.Clone(m.files)}
	args := slices.Clone(m.Args)
	for _, file := range []struct {
		flag    string
		content []byte
	}{{"-kernel", m.Image}, {"-initrd", m.Initrd}} {
		f, err := newTempFile(file.content)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrStart, err)
		}
		defer f.Close()
		args = append(args, file.flag, with.Pass(f))
	}
	ours, theirs, err := channelPair()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	defer ours.Close()
	cmd := exec.Command(m.QEMU, append(args,
		"-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
		"-device", "virtio-serial-device", "-chardev", "socket,id=channel,fd=3",
		"-device", "virtserialport,chardev=channel,name="+PortName,
		"-append", m.Cmdline)...)
	cmd.ExtraFiles = append([]*os.File{theirs}, with.files...) // its descriptors from 3 on
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

// Package emulator runs a machine in QEMU, and is its consoles and its channel to the outside.
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

	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
)

// Machine is an arm64 machine and what is loaded into its memory before it starts.
type Machine struct {
	QEMU    string   // the emulator's binary
	Args    []string // what the machine is made of: its processors, memory, devices
	Image   []byte
	Initrd  []byte
	Cmdline string
}

// PortName is the name of the virtio-serial port that is the machine's end of the channel.
const PortName = "org.vsmmu.channel"

// Heard is the line by which a machine is told that its last word has been heard. It powers off no sooner: QEMU ends with what
// the runner, who may be slow, has not taken from it.
const Heard = "heard"

// Names of the consoles: the machine's, and QEMU's own complaints.
const (
	HostConsole = "host"
	QEMUConsole = "qemu"
)

const (
	// maxLine bounds a line of a console.
	maxLine = 4 << 10
	// powerOffGrace is how long a machine has to power off once it has said its last word.
	powerOffGrace = 10 * time.Second
)

// ErrStart is matched by Run's error if QEMU was not even started.
var ErrStart = errors.New("the machine was not started")

// Run starts the machine, gives each line of its consoles to line, and the channel to talk. It ends when talk returns, which is
// then given the time to power off, or when ctx does, with its cause. No process and no file is left.
func (m *Machine) Run(ctx context.Context, line func(console, text string), talk func(channel io.ReadWriter) error) error {
	dir, err := os.MkdirTemp("", "vsmmu-")
	if err != nil {
		return fmt.Errorf("%w: a place for QEMU's files (TMPDIR names another): %w", ErrStart, err)
	}
	defer os.RemoveAll(dir)
	image, initrd := filepath.Join(dir, "image"), filepath.Join(dir, "initrd")
	for name, data := range map[string][]byte{image: m.Image, initrd: m.Initrd} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return fmt.Errorf("%w: a place for QEMU's files (TMPDIR names another): %w", ErrStart, err)
		}
	}
	ours, theirs, err := channelPair()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrStart, err)
	}
	defer ours.Close()
	cmd := exec.Command(m.QEMU, append(m.Args,
		"-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot",
		"-device", "virtio-serial-device", "-chardev", "socket,id=channel,fd=3", "-device", "virtserialport,chardev=channel,name="+PortName,
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
		_, _ = io.Copy(&w, r) // a pipe whose writer is gone has ended
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
			_, _ = io.WriteString(ours, Heard+"\n") // to whom may be gone already
			qemu.waitFor(powerOffGrace)
		}
		qemu.kill()
	case <-ctx.Done():
		err = context.Cause(ctx)
		qemu.kill()
		ours.Close() // which ends whatever waits on the channel
		<-said
	}
	<-consoles
	<-consoles
	return err
}

package labtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// Names of consoles beside those of package qemu: the output of the machine's program, the VMM, and
// its guest.
const (
	programConsole = "tests"
	vmmConsole     = "vmm"
	guestConsole   = "guest"
)

// errNoExit is the error of a machine that ends without the exit of its program.
var errNoExit = errors.New("the machine ended before its program")

// maxMessage bounds a message from a machine, in bytes.
const maxMessage = 1 << 20

// follow runs a machine and passes its messages to hear.
func (l *lab) follow(ctx context.Context, m *qemu.Machine, hear func(machine.Message)) error {
	l.words.reset()
	return m.Run(ctx, l.line, func(channel io.ReadWriter) error {
		messages := bufio.NewScanner(channel)
		messages.Buffer(make([]byte, 64<<10), maxMessage)
		for messages.Scan() {
			var m machine.Message
			if err := json.Unmarshal(messages.Bytes(), &m); err != nil {
				return fmt.Errorf("the machine sent a malformed message: %w", err)
			}
			hear(m)
			if m.Exit == nil {
				continue
			}
			if m.Exit.Error != "" {
				return errors.New(m.Exit.Error)
			}
			return nil
		}
		return errors.Join(errNoExit, messages.Err())
	})
}

// ignore is for follow.
func ignore(machine.Message) {}

// say prints a line of a console and keeps it as the console's last.
func (l *lab) say(console, text string) {
	l.words.add(console, text)
	l.progress.Line(console, text)
}

// line prints a line of a console and looks for a kernel's complaint in it.
func (l *lab) line(console, text string) {
	l.say(console, text)
	l.mu.Lock()
	defer l.mu.Unlock()
	if complains(text) && len(l.report.Warnings) < maxWarnings {
		l.report.Warnings = append(l.report.Warnings, console+": "+text)
	}
}

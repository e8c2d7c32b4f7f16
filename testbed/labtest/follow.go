package labtest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

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

// errNoExit is the error of a machine that ends without an Exit message.
var errNoExit = errors.New("the machine ended before its program")

// maxMessage bounds a message from a machine, in bytes.
const maxMessage = 1 << 20

// bootTimeout is the time from the start of a machine to the first message of its program.
const bootTimeout = 6 * time.Minute

// follow runs a machine and passes its messages to hear. The machine is up when up returns true for
// a message. If this takes too long, the machine ends.
func (l *lab) follow(
	ctx context.Context, m *qemu.Machine, up func(machine.Message) bool, hear func(machine.Message),
) error {
	l.words.reset()
	l.mu.Lock()
	l.excuses = false
	l.mu.Unlock()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	late := time.AfterFunc(bootTimeout, func() {
		giveUp(fmt.Errorf("the machine did not start its program within %v", bootTimeout))
	})
	defer late.Stop()
	return m.Run(ctx, l.line, func(channel io.ReadWriter) error {
		messages := bufio.NewScanner(channel)
		messages.Buffer(make([]byte, 64<<10), maxMessage)
		for messages.Scan() {
			var m machine.Message
			if err := json.Unmarshal(messages.Bytes(), &m); err != nil {
				return fmt.Errorf("the machine sent a malformed message: %w", err)
			}
			if up(m) {
				late.Stop()
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

// started reports whether a message is the first of a machine's program.
func started(m machine.Message) bool { return m.Hello != nil }

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
	if l.excuses.complains(text) && len(l.report.Warnings) < maxWarnings {
		l.report.Warnings = append(l.report.Warnings, console+": "+text)
	}
}

//go:build linux && (amd64 || arm64)

package vm

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

const (
	// maxMessage bounds a message of the guest's, the largest of which holds lines of its kernel's log.
	maxMessage = 64 << 10
	// maxMessages bounds how many are listened to: a guest that says more is not ours.
	maxMessages = 256
)

// control is the VMM's end of the channel to the guest's init: what is written to it comes from the guest, what is read from
// it goes there. The guest may say anything, in any order and at any length.
type control struct {
	notes    *notes
	tell     func(machine.Guest)
	do       func(what string) error // carries out what the guest asks for
	requests func() uint64           // how many invalidations the host has asked of the kernel

	mu       sync.Mutex
	lines    console.Writer
	messages int
	boot     int
	end      string
	cost     cost // when something was last begun, and so for the requests
	asked    uint64

	reply     chan string
	closed    chan struct{}
	closeOnce sync.Once
}

func newControl(notes *notes, tell func(machine.Guest)) *control {
	c := &control{notes: notes, tell: tell, reply: make(chan string, 1), closed: make(chan struct{})}
	c.lines = console.Writer{Max: maxMessage, Emit: c.message}
	return c
}

// begin is for a boot that begins.
func (c *control) begin(boot int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boot, c.end = boot, "the guest did not say how it would end"
}

// ended says how the guest has ended the boot.
func (c *control) ended() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// Write takes what the guest says. It never fails and never waits for the guest.
func (c *control) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines.Write(p)
}

// Read waits for something to say to the guest, until Close.
func (c *control) Read(p []byte) (int, error) {
	select {
	case word := <-c.reply:
		return copy(p, word), nil
	case <-c.closed:
		return 0, io.EOF
	}
}

func (c *control) Close() error {
	c.closeOnce.Do(func() { close(c.closed) })
	return nil
}

func (c *control) answer(word string) {
	select {
	case c.reply <- word + "\n":
	default: // the guest has not taken the answer to the last
	}
}

// message takes one line.
func (c *control) message(line string) {
	if c.messages++; c.messages > maxMessages {
		return
	}
	var m guest.LabMessage
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		m = guest.LabMessage{Error: fmt.Sprintf("the guest's init sent what is no message: %q", line[:min(len(line), 80)])}
	}
	switch {
	case m.Hello != nil:
		c.answer(strconv.Itoa(c.boot))
	case m.Ask != "":
		word := guest.Done
		if err := c.do(m.Ask); err != nil {
			word = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		c.answer(word)
		return
	case m.Begin != "":
		c.cost, c.asked = c.notes.spent(), c.requests()
		c.tell(machine.Guest{Stage: "the guest: " + m.Begin})
	case m.Read != nil:
		spent := c.notes.spent().since(c.cost)
		c.tell(machine.Guest{Read: &machine.Read{
			LabRead: *m.Read, Syncs: spent.syncs, Commands: spent.commands, Alone: spent.alone, Ioctls: c.requests() - c.asked,
		}})
		return
	case m.End != "":
		c.end = m.End
	case m.Error != "":
		c.end = "the guest's init gave up: " + m.Error
	}
	c.tell(machine.Guest{Said: &m})
}

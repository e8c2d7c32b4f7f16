//go:build linux && (amd64 || arm64)

package vm

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

const (
	// maxMessage bounds a message of the guest, in bytes. The largest has lines of its kernel's
	// log.
	maxMessage = 64 << 10
	// maxMessages bounds the number of messages. The VMM ignores more.
	maxMessages = 256
)

// control is the VMM's end of the channel to the guest's init. The guest's UART writes the guest's
// output to control, and reads the guest's input from it. A guest may send anything, in any order
// and of any length.
type control struct {
	notes    *notes
	tell     func(machine.Guest)
	do       func(ask string) error // executes a request of the guest
	requests func() uint64          // the host's number of IOMMU_HWPT_INVALIDATE

	mu       sync.Mutex
	lines    console.Writer
	messages int
	boot     int
	end      string
	cost     cost   // at the last Begin
	asked    uint64 // requests() at the last Begin

	*console.Answers
}

func newControl(notes *notes, tell func(machine.Guest)) *control {
	c := &control{notes: notes, tell: tell, Answers: console.NewAnswers()}
	c.lines = console.Writer{Max: maxMessage, Emit: c.message}
	return c
}

// begin starts a boot.
func (c *control) begin(boot int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.boot, c.end = boot, "the guest sent no end"
}

// ended returns the end that the guest sent for the boot, or an error text.
func (c *control) ended() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// Write handles the guest's output. It never fails and never waits for the guest.
func (c *control) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines.Write(p)
}

// message handles a line of the guest.
func (c *control) message(line string) {
	if c.messages++; c.messages > maxMessages {
		return
	}
	var m guest.LabMessage
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		m = guest.LabMessage{Error: fmt.Sprintf("malformed message %q", line[:min(len(line), 80)])}
	}
	switch {
	case m.Hello != nil:
		c.Send(strconv.Itoa(c.boot))
	case m.Ask != "":
		word := guest.Done
		if err := c.do(m.Ask); err != nil {
			word = strings.ReplaceAll(err.Error(), "\n", "; ")
		}
		c.Send(word)
		return
	case m.Begin != "":
		c.cost, c.asked = c.notes.spent(), c.requests()
		c.tell(machine.Guest{Stage: "guest: " + m.Begin})
	case m.Read != nil:
		spent := c.notes.spent().since(c.cost)
		c.tell(machine.Guest{Read: &machine.Read{
			LabRead:  *m.Read,
			Syncs:    spent.syncs,
			Commands: spent.commands,
			Alone:    spent.alone,
			Ioctls:   c.requests() - c.asked,
		}})
		return
	case m.End != "":
		c.end = m.End
	case m.Error != "":
		c.end = "the guest's init ended early: " + m.Error
	}
	c.tell(machine.Guest{Said: &m})
}

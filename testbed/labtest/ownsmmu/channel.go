//go:build linux && (amd64 || arm64)

package ownsmmu

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// maxMessage bounds a message of the guest, in bytes.
const maxMessage = 64 << 10

// channel is the VMM's end of the guest's channel. It forwards the guest's messages to the runner.
type channel struct {
	m     *machine.Machine
	hello func() // called for the guest's first message

	mu    sync.Mutex
	lines console.Writer
	*console.Answers
}

func newChannel(m *machine.Machine, hello func()) *channel {
	c := &channel{m: m, hello: hello, Answers: console.NewAnswers()}
	c.lines = console.Writer{Max: maxMessage, Emit: c.message}
	return c
}

// Write handles the guest's output. It never fails.
func (c *channel) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lines.Write(p)
}

// message forwards a line of the guest.
func (c *channel) message(line string) {
	var inner machine.Message
	if err := json.Unmarshal([]byte(line), &inner); err != nil {
		inner = machine.Message{Exit: &machine.Exit{
			Status: 1, Error: fmt.Sprintf("malformed message %.80q: %v", line, err),
		}}
	}
	if inner.Hello != nil {
		c.hello()
	}
	_ = c.m.Send(machine.Message{Inner: &inner}) // the runner ends the lab if the channel breaks
	if inner.Exit != nil {
		c.Send(qemu.Heard)
	}
}

package vm

import (
	"encoding/json"
	"fmt"
	"io"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

const (
	// maxMessage bounds a message of the guest's, the largest of which holds lines of its kernel's log.
	maxMessage = 64 << 10
	// maxMessages bounds how many are listened to: a guest that says more is not ours.
	maxMessages = 64
)

// control is the VMM's end of the channel to the guest's init: what is written to it comes from the guest, what is read
// from it goes there. The guest may say anything, in any order and at any length.
type control struct {
	sink   Sink
	report *report.Report
	rogue  func() // makes the misbehaving endpoint's DMA

	lines    console.Writer
	messages int
	rogueWas bool
	rogueRun sync.WaitGroup
	through  bool // the guest's last message has come

	reply     chan string
	closed    chan struct{}
	closeOnce sync.Once
}

func newControl(sink Sink, r *report.Report, rogue func()) *control {
	c := &control{sink: sink, report: r, rogue: rogue, reply: make(chan string, 1), closed: make(chan struct{})}
	c.lines = console.Writer{Max: maxMessage, Emit: c.message}
	return c
}

// Write takes what the guest says. It never fails and never waits for the guest.
func (c *control) Write(p []byte) (int, error) { return c.lines.Write(p) }

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

// message takes one line. What goes into the report is bounded by the number of messages and their size.
func (c *control) message(line string) {
	if c.messages++; c.messages > maxMessages || c.through {
		return
	}
	var m guest.Message
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		c.fail(fmt.Sprintf("the guest's init sent what is no message: %q", line[:min(len(line), 80)]))
		return
	}
	switch {
	case m.Hello != nil:
		c.report.Guest = report.Guest{
			Release: m.Hello.Release, Version: m.Hello.Version, PageSize: m.Hello.PageSize, CPUs: m.Hello.CPUs,
		}
		c.sink.Stage("the guest's init looks for its disks")
	case m.Stage != "":
		c.sink.Stage("the guest: " + m.Stage)
	case m.Disk != nil:
		for i := range c.report.Disks {
			d := &c.report.Disks[i]
			if d.Serial == m.Disk.Serial {
				d.Name, d.IOMMU, d.Error = m.Disk.Name, m.Disk.IOMMU, m.Disk.Error
				d.Written, d.Read, d.Verified, d.Rebound = m.Disk.Written, m.Disk.Read, m.Disk.Verified, m.Disk.Rebound
			}
		}
	case m.Up != nil:
		if c.rogueWas {
			return
		}
		c.rogueWas = true
		c.report.Probe = m.Up.Probe
		c.sink.Stage("an endpoint makes a DMA that the guest never mapped")
		// Not here, which is on a vCPU: the DMA may wait for the guest.
		c.rogueRun.Go(func() {
			c.rogue()
			c.reply <- guest.Done + "\n"
		})
	case m.Faults != nil:
		c.report.Fault.Kernel = m.Faults.Lines
		c.through = true
		c.sink.Stage("the guest powers off")
	case m.Error != "":
		c.fail("the guest's init gave up: " + m.Error)
	}
}

func (c *control) fail(why string) {
	c.through = true
	if c.report.Error == "" {
		c.report.Error = why
	}
}

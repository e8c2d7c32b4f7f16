package vm

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/console"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

const (
	// maxMessage bounds a message from the guest. The largest has lines of its kernel's log.
	maxMessage = 64 << 10
	// maxMessages bounds the number of messages from a guest. Further ones are ignored.
	maxMessages = 64
)

// control is the VMM's end of the channel to the guest's init. Writes come from the guest, and
// reads go to it. The guest may send anything, in any order and of any length.
type control struct {
	sink   Sink
	report *report.Report
	rogue  func() // makes the misbehaving endpoint's DMA

	lines    console.Writer
	messages int
	rogueWas bool
	reboots  int // how often the guest is still asked to reboot
	rogueRun sync.WaitGroup
	through  bool // after the guest's last message

	*console.Answers
}

func newControl(sink Sink, r *report.Report, rogue func()) *control {
	c := &control{sink: sink, report: r, rogue: rogue, Answers: console.NewAnswers()}
	c.lines = console.Writer{Max: maxMessage, Emit: c.message}
	return c
}

// Write takes bytes from the guest. It never fails and never waits for the guest.
func (c *control) Write(p []byte) (int, error) { return c.lines.Write(p) }

// message handles a line. The number and size of messages bound what goes into the report.
func (c *control) message(line string) {
	if c.messages++; c.messages > maxMessages || c.through {
		return
	}
	var m guest.Message
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		c.fail(fmt.Sprintf("the guest's init sent a malformed message: %q", line[:min(len(line), 80)]))
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
				d.Written, d.Read, d.Verified, d.Table = m.Disk.Written, m.Disk.Read, m.Disk.Verified, m.Disk.Table
				d.Rebound = m.Disk.Rebound
			}
		}
	case m.Found:
		if c.reboots > 0 {
			c.reboots--
			c.sink.Stage("the guest reboots through the firmware")
			c.Send(guest.Again)
			return
		}
		c.Send(guest.Done)
	case m.Up != nil:
		if c.rogueWas {
			return
		}
		c.rogueWas = true
		c.report.Probe = m.Up.Probe
		c.sink.Stage("an endpoint makes DMA to an unmapped address")
		// This is a vCPU's goroutine, and the DMA may wait for the guest.
		c.rogueRun.Go(func() {
			c.rogue()
			c.Send(guest.Done)
		})
	case m.Faults != nil:
		c.report.Fault.Kernel, c.report.Description = m.Faults.Lines, m.Faults.Description
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

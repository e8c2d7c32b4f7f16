package labtest

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// runGuest runs a Linux guest in our VMM on the host's kernel, with an NVMe disk passed through.
func (l *lab) runGuest(ctx context.Context) error {
	l.progress.Stage("the host's kernel boots, with an NVMe disk")
	inner, err := initramfs(l.agent)
	if err != nil {
		return err
	}
	initrd, err := initramfs(l.agent,
		kernel.File{Name: machine.ImageFile, Mode: 0o644, Data: l.image},
		kernel.File{Name: machine.InitrdFile, Mode: 0o644, Data: inner})
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vsmmu-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	nvme := filepath.Join(dir, "nvme")
	if err := os.WriteFile(nvme, nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(nvme, machine.DiskSize); err != nil {
		return err
	}
	var said string // the VMM's last line, which is its error if it fails
	status := 0
	err = l.follow(ctx, l.guestMachine(append(l.iort, initrd...), nvme), func(m machine.Message) {
		switch {
		case m.Line != nil:
			said = *m.Line
		case m.Exit != nil:
			status = m.Exit.Status
		}
		l.hearVMM(m)
	})
	switch {
	case err != nil:
		return err
	case status != 0:
		return fmt.Errorf("the VMM exited with status %d: %s", status, said)
	}
	if l.report.Guest.NVMe, err = checkNVMe(nvme); err != nil {
		l.report.Guest.NVMeError = err.Error()
	}
	return nil
}

// hearVMM takes what the VMM says.
func (l *lab) hearVMM(m machine.Message) {
	switch {
	case m.Line != nil:
		l.say(vmmConsole, *m.Line)
	case m.Figures != nil:
		l.report.Figures.add(m.Figures)
	case m.Guest != nil:
		l.hearGuest(m.Guest)
	}
}

// hearGuest takes what the VMM says of its guest.
func (l *lab) hearGuest(m *machine.Guest) {
	g := &l.report.Guest
	switch {
	case m.Line != nil && g.crashing: // the panic is planned
		l.progress.Line(guestConsole, *m.Line)
	case m.Line != nil:
		l.line(guestConsole, *m.Line)
	case m.Stage != "":
		l.progress.Stage(m.Stage)
	case m.Boot != nil:
		g.Boots = append(g.Boots, *m.Boot)
		g.crashing = false
	case m.Read != nil:
		g.Reads = append(g.Reads, Read{Name: g.begun, Read: *m.Read})
	case m.End != nil:
		g.End = *m.End
		l.report.reached = guestEnded
	case m.Removed != nil:
		g.Removed = m.Removed
	case m.Said != nil:
		g.hear(m.Said)
	}
}

// Guest is what was seen of the guest.
type Guest struct {
	Release string         `json:"release"`
	Boots   []machine.Boot `json:"boots"`
	Steps   []Step         `json:"steps"`
	Reads   []Read         `json:"reads"`
	// Moved is how the NVMe disk's requester ID has changed, as the guest's kernel sees it.
	Moved *guest.LabMove `json:"moved"`
	// Interrupts are those of the NVMe disk without messages.
	Interrupts *guest.LabInterrupts `json:"interrupts"`
	// Stray is the DMA that the guest never mapped, and TakenOver what the kernel said that found the SMMU enabled.
	Stray     *guest.LabStray `json:"stray"`
	TakenOver []string        `json:"taken_over"`
	// Lost is how the guest lost the NVMe disk, and Removed how the host got it.
	Lost    *guest.LabLost   `json:"lost"`
	Removed *machine.Removed `json:"removed"`
	// NVMe is how many bytes of the disk that was passed through are as the guest left them.
	NVMe      int64  `json:"nvme_bytes"`
	NVMeError string `json:"nvme_error,omitempty"`
	machine.End

	begun    string // what the guest does
	crashing bool
}

// Step is a round of writing and reading both disks.
type Step struct {
	Name  string       `json:"name"`
	Disks []guest.Disk `json:"disks"`
}

// Read is a measured read.
type Read struct {
	Name string `json:"name"`
	machine.Read
}

// BytesPerSecond is how fast it was by the guest's clock.
func (r Read) BytesPerSecond() float64 { return float64(r.Bytes) / r.Seconds }

// add takes in another of the same name. If the two were not by the same way, there is none.
func (r *Read) add(of Read) {
	if of.IOMMU != r.IOMMU {
		r.IOMMU = ""
	}
	r.Bytes += of.Bytes
	r.Seconds += of.Seconds
	r.Syncs += of.Syncs
	r.Commands += of.Commands
	r.Ioctls += of.Ioctls
	r.Alone += of.Alone
}

func (g *Guest) hear(m *guest.LabMessage) {
	switch {
	case m.Hello != nil:
		g.Release = m.Hello.Release
	case m.Begin != "":
		g.begun = m.Begin
	case m.Disk != nil:
		if n := len(g.Steps); n == 0 || g.Steps[n-1].Name != g.begun {
			g.Steps = append(g.Steps, Step{Name: g.begun})
		}
		step := &g.Steps[len(g.Steps)-1]
		step.Disks = append(step.Disks, *m.Disk)
	case m.Moved != nil:
		g.Moved = m.Moved
	case m.Interrupts != nil:
		g.Interrupts = m.Interrupts
	case m.Stray != nil:
		g.Stray = m.Stray
	case m.Lost != nil:
		g.Lost = m.Lost
	case m.Reset != nil:
		g.TakenOver = m.Reset.Kernel
	case m.End != "":
		g.crashing = m.End == guest.EndCrash
	}
}

// checkNVMe says how many bytes of the image are as the guest has left them.
func checkNVMe(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	data := make([]byte, guest.TestSize)
	if _, err := io.ReadFull(f, data); err != nil {
		return 0, err
	}
	return guest.LabCheck(guest.LabNVMe, data)
}

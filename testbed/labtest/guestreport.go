package labtest

import (
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// Guest is the information that the VMM and its guest sent.
type Guest struct {
	Release string         `json:"release"`
	Boots   []machine.Boot `json:"boots"`
	Steps   []Step         `json:"steps"`
	Reads   []Read         `json:"reads"`
	// Moved is the change of the NVMe disk's requester ID, as the guest's kernel sees it.
	Moved *guest.LabMove `json:"moved"`
	// Interrupts counts the interrupts of the NVMe disk while it may not send MSIs.
	Interrupts *guest.LabInterrupts `json:"interrupts"`
	// Stray is a DMA to an address that the guest never mapped. TakenOver has the log lines of the
	// kernel that found the SMMU enabled.
	Stray     *guest.LabStray `json:"stray"`
	TakenOver []string        `json:"taken_over"`
	// Lost is the removal of the NVMe disk as the guest saw it. Removed is the removal as the host
	// saw it.
	Lost    *guest.LabLost   `json:"lost"`
	Removed *machine.Removed `json:"removed"`
	// NVMe is the number of bytes of the NVMe disk, from the start, that the guest wrote.
	NVMe      int64  `json:"nvme_bytes"`
	NVMeError string `json:"nvme_error,omitempty"`
	machine.End

	begun    string // the current step or read
	crashing bool   // the next panic is planned
}

// Step is a test of both disks.
type Step struct {
	Name  string       `json:"name"`
	Disks []guest.Disk `json:"disks"`
}

// Read is a measured read of the NVMe disk.
type Read struct {
	Name string `json:"name"`
	machine.Read
}

// BytesPerSecond returns the speed by the guest's clock.
func (r Read) BytesPerSecond() float64 { return float64(r.Bytes) / r.Seconds }

// add adds another read with the same name. The IOMMU becomes empty if the two differ.
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

// hear handles a message of the guest's init.
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

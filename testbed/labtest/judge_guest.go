package labtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// guestChecks judge the guest and its disks.
var guestChecks = []check{
	{"the guest rebooted, crashed, and powered off, in this order", atEnd, func(r *Report) (string, bool) {
		var ends []string
		for _, b := range r.Guest.Boots {
			ends = append(ends, fmt.Sprintf("%s after %.0f s", b.End, b.Time))
		}
		want := []string{guest.EndReboot, guest.EndCrash, guest.EndPowerOff}
		return fmt.Sprintf("Linux %s: %s", r.Guest.Release, strings.Join(ends, ", ")),
			slices.EqualFunc(r.Guest.Boots, want, func(b machine.Boot, end string) bool { return b.End == end })
	}},
	{"both disks are behind one SMMU, each with a host of its own", atEnd, func(r *Report) (string, bool) {
		hosts := map[string]int{}
		for _, s := range r.Guest.Streams {
			if translated(s) {
				hosts[s.Host]++
			}
		}
		// The NVMe disk has had two StreamIDs.
		return fmt.Sprintf("translated streams by host: %v", hosts), hosts["iommufd"] == 2 && hosts["soft"] == 1
	}},
	{"the NVMe disk's StreamID follows the number of its bus", atEnd, streamFollowsBus},
	{"without MSIs the NVMe disk interrupts by INTx", func(r *Report) bool {
		return atEnd(r) || r.Guest.Interrupts != nil
	}, func(r *Report) (string, bool) {
		n := r.Guest.Interrupts
		if n == nil {
			return "the guest did not count its interrupts", false
		}
		return fmt.Sprintf("%d by INTx, %d by MSI", n.Line, n.Messages), n.Line > 0 && n.Messages == 0
	}},
	{"both disks were written, read and verified at every step", func(r *Report) bool {
		return atEnd(r) ||
			slices.ContainsFunc(r.Guest.Steps, func(s Step) bool { return slices.ContainsFunc(s.Disks, s.wrong) })
	}, disksVerified},
	{"both disks' storage has the bytes that the guest wrote", atEnd, func(r *Report) (string, bool) {
		switch g := &r.Guest; {
		case g.VirtioError != "":
			return "the emulated disk: " + g.VirtioError, false
		case g.NVMeError != "":
			return "the NVMe disk: " + g.NVMeError, false
		}
		return fmt.Sprintf("%d bytes of the NVMe disk, %d of the emulated one", r.Guest.NVMe, r.Guest.Virtio),
			r.Guest.NVMe == guest.TestSize && r.Guest.Virtio == guest.TestSize
	}},
	{"the SMMU recorded an unmapped DMA, and the guest's kernel reported it", atEnd, unmappedReported},
	{"the guest's kernel took over an enabled SMMU", func(r *Report) bool {
		return atEnd(r) || r.Guest.began(guest.StepTakenOver)
	}, func(r *Report) (string, bool) {
		i := slices.IndexFunc(r.Guest.TakenOver, func(line string) bool {
			return strings.Contains(line, "SMMU currently enabled")
		})
		if i < 0 {
			return fmt.Sprintf("the kernel's log does not say so: %q", r.Guest.TakenOver), false
		}
		return r.Guest.TakenOver[i], true
	}},
	{"the host removed the NVMe disk during DMA, and the other disk still works", func(r *Report) bool {
		return atEnd(r) || r.Guest.Removed != nil && r.Guest.Removed.Error != ""
	}, diskRemoved},
}

func streamFollowsBus(r *Report) (string, bool) {
	m := r.Guest.Moved
	if m == nil {
		return "the guest did not renumber the bus", false
	}
	at := func(id uint32, attached bool) func(machine.Place) bool {
		return func(p machine.Place) bool { return p == machine.Place{StreamID: id, Attached: attached} }
	}
	places := r.Guest.Places
	i := slices.IndexFunc(places, at(m.From, false))
	if m.From == m.To || i < 1 || i+1 == len(places) || !at(m.From, true)(places[i-1]) || !at(m.To, true)(places[i+1]) {
		return fmt.Sprintf("the guest moved it from %#x to %#x: %+v", m.From, m.To, places), false
	}
	// The step after the move verified its bytes. The new stream has the stage of the old stream.
	j := slices.IndexFunc(r.Guest.Streams, func(s machine.Stream) bool { return s.StreamID == m.To })
	return fmt.Sprintf("%#x was detached, %#x was attached and bound", m.From, m.To),
		j >= 0 && translated(r.Guest.Streams[j])
}

func disksVerified(r *Report) (string, bool) {
	done := 0
	for _, s := range r.Guest.Steps {
		for _, d := range s.Disks {
			switch {
			case d.Error != "":
				return fmt.Sprintf("%s, %s: %s", d.Serial, s.Name, d.Error), false
			case s.wrong(d):
				return fmt.Sprintf("%s, %s: %d bytes verified, domain %q", d.Serial, s.Name, d.Verified, d.IOMMU), false
			}
			done++
		}
	}
	for _, name := range guest.LabSteps {
		if !r.Guest.began(name) {
			return "step missing: " + name, false
		}
	}
	return strings.Join(guest.LabSteps, "; "), done == 2*len(guest.LabSteps)
}

// wrong reports whether the step failed to verify a disk, or verified it without stage 1.
func (s Step) wrong(d guest.Disk) bool {
	return d.Error != "" || d.Verified != guest.LabSize(s.Name) || d.IOMMU != guest.DomainStrict
}

// began reports whether a disk was tested in a step.
func (g *Guest) began(step string) bool {
	return slices.ContainsFunc(g.Steps, func(s Step) bool { return s.Name == step })
}

func unmappedReported(r *Report) (string, bool) {
	stray := r.Guest.Stray
	if stray == nil {
		return "the guest did not make the DMA", false
	}
	recorded := slices.ContainsFunc(r.Guest.Events, func(e machine.Event) bool {
		return e.Name == smmuv3.FTranslation.String() && stray.Address != 0 && e.Address&^0xfff == stray.Address
	})
	// Linux prints the number of the record, and its name as well from 6.15 on.
	i := slices.IndexFunc(stray.Kernel, func(line string) bool {
		return strings.Contains(line, "event 0x10 received") || strings.Contains(line, "event: F_TRANSLATION")
	})
	if i < 0 || !recorded {
		return fmt.Sprintf("recorded: %v; the kernel's log: %q", recorded, stray.Kernel), false
	}
	return stray.Kernel[i], true
}

func diskRemoved(r *Report) (string, bool) {
	lost, removed := r.Guest.Lost, r.Guest.Removed
	switch {
	case removed == nil:
		return "the host did not remove the disk", false
	case removed.Error != "":
		return "the host could not remove the disk: " + removed.Error, false
	case lost == nil:
		return "the guest did not see the removal", false
	case lost.Virtio.Error != "" || lost.Virtio.Verified != guest.LabSize(guest.StepTakenOver):
		return fmt.Sprintf("the emulated disk: %d bytes verified afterwards, error %q",
			lost.Virtio.Verified, lost.Virtio.Error), false
	}
	last := len(r.Guest.Places) - 1
	detached := last >= 0 && !r.Guest.Places[last].Attached && r.Guest.Places[last].Error == ""
	return fmt.Sprintf("%d bytes read, then %q; the host waited %.1f s; stream detached: %v",
		lost.Bytes, lost.Error, removed.Seconds, detached), lost.Bytes > 0 && lost.Error != "" && detached
}

// translated reports whether stage 1 has ever translated for a stream.
func translated(s machine.Stream) bool {
	return slices.ContainsFunc(s.Binds, func(bind string) bool {
		return strings.HasPrefix(bind, bridge.Translate.String())
	})
}

// readChecks judge the measured reads of the NVMe disk.
var readChecks = []check{
	{"a CMD_SYNC of the NVMe disk takes at most 1.1 invalidation ioctls", readsEnded, func(r *Report) (string, bool) {
		read, ok := r.read(guest.ReadStrict)
		return fmt.Sprintf("%d ioctls for %d CMD_SYNC with %d commands", read.Ioctls, read.Syncs, read.Commands),
			ok && read.Syncs > 0 && float64(read.Ioctls) <= 1.1*float64(read.Syncs)
	}},
	{"no invalidation ioctl has one command where the guest gave more", readsEnded, func(r *Report) (string, bool) {
		read, ok := r.read(guest.ReadStrict)
		return fmt.Sprintf(
				"%d of %d ioctls",
				read.Alone,
				read.Ioctls,
			), ok && read.Commands > read.Syncs &&
				read.Alone == 0
	}},
	{
		"the NVMe disk was read with stage 1 translating and bypassed, by turns",
		readsEnded,
		func(r *Report) (string, bool) {
			strict, ok1 := r.read(guest.ReadStrict)
			bypass, ok2 := r.read(guest.ReadBypass)
			return r.Speed.String(), r.Speed.Ratio > 0 && ok1 && ok2 &&
				strict.IOMMU == guest.DomainStrict && bypass.IOMMU == guest.DomainIdentity
		},
	},
}

// readsEnded reports whether all turns have ended: the next step has begun.
func readsEnded(r *Report) bool { return atEnd(r) || r.Guest.began(guest.StepDomain) }

// read returns the sum of the measured reads with a name.
func (r *Report) read(name string) (sum Read, ok bool) {
	for _, read := range r.Guest.Reads {
		switch {
		case read.Name != name:
			continue
		case !ok:
			sum, ok = read, true
		default:
			sum.add(read)
		}
	}
	return sum, ok
}

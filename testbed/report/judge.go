package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/internal/asjson"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// when is the set of modes in which a check is made.
type when uint8

const (
	always when = iota
	translated
	byStage1
	byStage2
	passedThrough
	onPCI
	stalling
	rebound
	moved
)

func (w when) holds(m Mode) bool {
	switch w {
	case translated:
		return !m.Passthrough
	case byStage1:
		return !m.Passthrough && !m.Stage2
	case byStage2:
		return !m.Passthrough && m.Stage2
	case passedThrough:
		return m.Passthrough
	case onPCI:
		return m.PCI
	case stalling:
		return m.Stalls && !m.Passthrough
	case rebound:
		return m.Rebind
	case moved:
		return m.Moves > 0
	}
	return true
}

// point is how far a boot has to come before a check can hold. Judge leaves out the checks that a boot with an error did
// not reach.
type point uint8

const (
	started     point = iota // the guest's init has spoken
	plainTested              // the init has reported the test of the disk
	pasidTested
	bothTested
	strayed // the rogue endpoint has made its DMA
	told    // the init has reported the fault
	ended   // the guest has powered off
)

func (p point) reached(r *Report) bool {
	tested := func(serial string) bool { return r.disk(serial).Error != NotTested }
	switch p {
	case plainTested:
		return tested(guest.Plain)
	case pasidTested:
		return tested(guest.PASID)
	case bothTested:
		return tested(guest.Plain) && tested(guest.PASID)
	case strayed:
		return r.Fault.Made
	case told:
		return len(r.Fault.Kernel) > 0
	case ended:
		return r.Guest.Release != "" && r.Guest.PoweredOff
	}
	return r.Guest.Release != ""
}

// NotTested is the error of a disk whose test the guest has not reported.
const NotTested = "the guest did not test it"

// checks is what must hold. Each returns what it saw, and whether that is right.
var checks = []struct {
	name  string
	when  when
	after point
	judge func(*Report) (detail string, ok bool)
}{
	{"the guest reached its user space", always, started, func(r *Report) (string, bool) {
		return fmt.Sprintf("Linux %s, %d KiB pages, %d CPUs", r.Guest.Release, r.Guest.PageSize>>10, r.Guest.CPUs), r.Guest.Release != ""
	}},
	{"its driver brought the SMMU up", always, strayed, func(r *Report) (string, bool) {
		// The line by which the driver closes its reading of the ID registers, in every kernel from 4.2 on.
		i := slices.IndexFunc(r.Probe, func(line string) bool { return strings.Contains(line, "(features 0x") })
		if i < 0 {
			return fmt.Sprintf("no line of its tells the features found, of %d lines", len(r.Probe)), false
		}
		return r.Probe[i], true
	}},
	{"its disks have the domains that its command line asks for", always, bothTested, func(r *Report) (string, bool) {
		plain, pasid, want := r.disk(guest.Plain).IOMMU, r.disk(guest.PASID).IOMMU, r.Mode.domain()
		return fmt.Sprintf("plain has %q, pasid %q", plain, pasid), plain == want && pasid == want
	}},
	{"plain: bound to a single context descriptor", byStage1, plainTested, func(r *Report) (string, bool) {
		bind, ok := r.lastStage(guest.Plain)
		return bind.Text, ok && bind.S1CDMax == 0
	}},
	{"pasid: bound to a table of context descriptors", byStage1, pasidTested, func(r *Report) (string, bool) {
		bind, ok := r.lastStage(guest.PASID)
		s1cdmax, s1fmt := r.cdTable()
		return bind.Text, ok && bind.S1CDMax > 0 && bind.S1CDMax == s1cdmax && bind.S1Fmt == s1fmt &&
			bind.S1DSS == smmuv3.S1DSSSubstream0.String()
	}},
	{"plain, pasid: bound to stage 2, each with tables and a VMID of its own", byStage2, bothTested, func(r *Report) (string, bool) {
		plain, ok := r.lastStage(guest.Plain)
		pasid, okToo := r.lastStage(guest.PASID)
		return plain.Text + "; " + pasid.Text, ok && okToo && plain.S2 != nil && pasid.S2 != nil &&
			plain.S2VMID != pasid.S2VMID && plain.S2.TTB != pasid.S2.TTB
	}},
	{"plain: bound to bypass", passedThrough, plainTested, func(r *Report) (string, bool) { return r.bypassed(guest.Plain) }},
	{"pasid: bound to bypass", passedThrough, pasidTested, func(r *Report) (string, bool) { return r.bypassed(guest.PASID) }},
	{"plain: written, read back and verified", always, plainTested, func(r *Report) (string, bool) { return r.diskDone(guest.Plain) }},
	{"pasid: written, read back and verified", always, pasidTested, func(r *Report) (string, bool) { return r.diskDone(guest.PASID) }},
	{"plain: every byte moved through stage 1", byStage1, plainTested, func(r *Report) (string, bool) { return r.allMoved(guest.Plain) }},
	{"pasid: every byte moved through stage 1", byStage1, pasidTested, func(r *Report) (string, bool) { return r.allMoved(guest.PASID) }},
	{"plain: every byte moved through stage 2", byStage2, plainTested, func(r *Report) (string, bool) { return r.allMoved(guest.Plain) }},
	{"pasid: every byte moved through stage 2", byStage2, pasidTested, func(r *Report) (string, bool) { return r.allMoved(guest.PASID) }},
	{"translations were invalidated by IPA and VMID, and none of stage 1", byStage2, bothTested, func(r *Report) (string, bool) {
		ipa, vmid := r.Commands[smmuv3.OpTLBIS2IPA.String()], r.Commands[smmuv3.OpTLBIS12VMAll.String()]
		var stage1 uint64
		for _, op := range []smmuv3.Opcode{smmuv3.OpTLBINHAll, smmuv3.OpTLBINHASID, smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA} {
			stage1 += r.Commands[op.String()]
		}
		// With iommu.strict=0 a VMID at a time is all that it has to do.
		return fmt.Sprintf("%d TLBI_S2_IPA, %d TLBI_S12_VMALL, %d of stage 1", ipa, vmid, stage1),
			(ipa > 0 || r.Mode.Lazy) && vmid > 0 && stage1 == 0
	}},
	{"plain: every byte moved past stage 1", passedThrough, plainTested, func(r *Report) (string, bool) { return r.allMoved(guest.Plain) }},
	{"pasid: every byte moved past stage 1", passedThrough, pasidTested, func(r *Report) (string, bool) { return r.allMoved(guest.PASID) }},
	{"plain: its interrupts went the way of its data", onPCI, plainTested, func(r *Report) (string, bool) { return r.messages(guest.Plain) }},
	{"pasid: its interrupts went the way of its data", onPCI, pasidTested, func(r *Report) (string, bool) { return r.messages(guest.PASID) }},
	{"plain: unbound from its driver and bound, past stage 1 and back", rebound, plainTested, func(r *Report) (string, bool) { return r.rebound(guest.Plain) }},
	{"pasid: unbound from its driver and bound, past stage 1 and back", rebound, pasidTested, func(r *Report) (string, bool) { return r.rebound(guest.PASID) }},
	{"the SMMU was saved, thrown away and restored in the middle of the disks' requests", moved, bothTested, func(r *Report) (string, bool) {
		m := r.Moves
		detail := fmt.Sprintf("%d times of %d", m.Made, r.Mode.Moves)
		if m.Made == 0 || len(m.At) != m.Made {
			return detail, false
		}
		first, last := m.At[0], m.At[m.Made-1]
		return fmt.Sprintf("%s, from %s to %s of %s of DMA, by states of up to %d bytes, in %.1f ms at most", detail,
			size(int64(first)), size(int64(last)), size(int64(m.DMA)), m.StateBytes, 1000*m.Longest), m.Made == r.Mode.Moves && last < m.DMA
	}},
	// Past stage 1, too: there is no memory where it goes.
	{"rogue: its DMA to an unmapped address was refused", always, strayed, func(r *Report) (string, bool) {
		if !r.Fault.Made {
			return "it was never made", false
		}
		return r.Fault.Error, r.Fault.Error != ""
	}},
	{"rogue: the device recorded F_TRANSLATION", translated, strayed, func(r *Report) (string, bool) {
		if len(r.Fault.Device) == 0 {
			return "nothing was recorded", false
		}
		e := r.Fault.Device[0]
		stage := 1
		if e.Stage2 {
			stage = 2
		}
		detail := fmt.Sprintf("%s, stage %d, stream %#x, at %#x", e.Name, stage, e.StreamID, e.Address)
		return detail, e.Type == uint8(smmuv3.FTranslation) && e.Stage2 == r.Mode.Stage2 && e.StreamID == r.Fault.StreamID && e.Address == r.Fault.Address
	}},
	{"rogue: its driver lets it stall, and no other", stalling, strayed, func(r *Report) (string, bool) {
		rogue, bound := r.lastStage(guest.Rogue)
		plain, _ := r.lastStage(guest.Plain)
		pasid, _ := r.lastStage(guest.PASID)
		return fmt.Sprintf("S1STALLD: rogue %t, plain %t, pasid %t", rogue.S1STALLD, plain.S1STALLD, pasid.S1STALLD),
			bound && !rogue.S1STALLD && plain.S1STALLD && pasid.S1STALLD
	}},
	{"rogue: its DMA stalled until the guest's driver had it aborted", stalling, strayed, func(r *Report) (string, bool) {
		if len(r.Fault.Device) == 0 || !r.Fault.Device[0].Stall {
			return "it did not stall", false
		}
		stalled := Resume{r.Fault.StreamID, r.Fault.Device[0].STAG, ResumeAbort}
		return fmt.Sprintf("STAG %#x; CMD_RESUME: %+v", stalled.STAG, r.Fault.Resumes), slices.Equal(r.Fault.Resumes, []Resume{stalled})
	}},
	{"rogue: the guest's kernel printed the fault", translated, told, func(r *Report) (string, bool) {
		// Up to 6.14 the number and the words of the record, from then on the record's name.
		i := slices.IndexFunc(r.Fault.Kernel, func(line string) bool {
			return strings.Contains(line, "event 0x10 received") || strings.Contains(line, "event: F_TRANSLATION")
		})
		if i < 0 {
			return fmt.Sprintf("not among %d lines", len(r.Fault.Kernel)), false
		}
		return r.Fault.Kernel[i], true
	}},
	{"its driver complained of nothing else", always, strayed, func(r *Report) (string, bool) {
		said := slices.Concat(r.Probe, r.Fault.Kernel)
		if i := slices.IndexFunc(said, complains); i >= 0 {
			return said[i], false
		}
		return fmt.Sprintf("in %d lines", len(said)), true
	}},
	{"nothing else faulted", always, strayed, func(r *Report) (string, bool) {
		translation := r.Events[smmuv3.FTranslation.String()]
		var all uint64
		for _, n := range r.Events {
			all += n
		}
		return fmt.Sprintf("%d events", all), all == translation && translation == uint64(len(r.Fault.Device))
	}},
	{"commands were consumed and interrupts raised", always, strayed, func(r *Report) (string, bool) {
		syncs, stes, events := r.Commands[smmuv3.OpSync.String()], r.Commands[smmuv3.OpCfgiSTE.String()], r.Interrupts[vsmmu.LineEventQ.String()]
		return fmt.Sprintf("%d SYNC, %d CFGI_STE, %d event interrupts", syncs, stes, events),
			syncs > 0 && stes > 0 && (events > 0) == (len(r.Fault.Device) > 0)
	}},
	{"the guest powered off", always, ended, func(r *Report) (string, bool) {
		if !r.Guest.PoweredOff {
			return "it did not", false
		}
		return "of its own accord", true
	}},
}

// complaints are words by which the driver tells of an SMMU that does not do what it is to: a command that does not end, an
// error in a queue, events that are lost, a register that does not follow. A fault of an endpoint is told without them.
var complaints = []string{"timeout", "error", "overflow", "aborted", "failed", "Failure", "not responding"}

func complains(line string) bool {
	return slices.ContainsFunc(complaints, func(word string) bool { return strings.Contains(line, word) })
}

// Judge makes the checks. A boot with an error is not OK, and is judged only by the checks that it reached: all others
// would repeat the error.
func (r *Report) Judge() {
	r.Checks = []Check{}
	r.OK = r.Error == ""
	for _, c := range checks {
		if !c.when.holds(r.Mode) || r.Error != "" && !c.after.reached(r) {
			continue
		}
		detail, ok := c.judge(r)
		r.Checks = append(r.Checks, Check{c.name, ok, detail})
		r.OK = r.OK && ok
	}
}

// lastStage returns the stage that an endpoint did its DMA with: the last, while the SMMU was enabled, with the disposition
// of the mode.
func (r *Report) lastStage(endpoint string) (asjson.Bind, bool) {
	want := r.Mode.disposition()
	for _, b := range slices.Backward(r.stream(endpoint).Binds) {
		if b.Disposition == want && !b.SMMUDisabled && b.Error == "" {
			return b, true
		}
	}
	return asjson.Bind{Text: fmt.Sprintf("no stage to %s was ever bound", want)}, false
}

func (r *Report) bypassed(endpoint string) (string, bool) {
	bind, ok := r.lastStage(endpoint)
	return bind.Text, ok
}

func (r *Report) diskDone(serial string) (string, bool) {
	d := r.disk(serial)
	detail := fmt.Sprintf("%s written, %s read, %s verified, %s right in the backing file",
		size(d.Written), size(d.Read), size(d.Verified), size(d.Backing))
	if d.Error != "" {
		return d.Error, false
	}
	return detail, min(d.Written, d.Read, d.Verified, d.Backing) >= guest.TestSize
}

// rebound: what the disk was read for past stage 1 was moved there.
func (r *Report) rebound(serial string) (string, bool) {
	d, past := r.disk(serial), r.stream(serial).Moved[bridge.Bypass.String()]
	if d.Rebound == nil {
		return "it was not", false
	}
	return fmt.Sprintf("%s right with the domain %q, %s with %q after that; %s moved past stage 1",
			size(d.Rebound.Identity), guest.DomainIdentity, size(d.Rebound.Before), d.IOMMU, size(int64(past))),
		min(d.Rebound.Identity, d.Rebound.Before) >= guest.RebindSize && past >= uint64(d.Rebound.Identity)
}

// allMoved: what the disk moved under stages with the disposition of the mode covers what the guest moved, and it moved
// nothing under any other, but for what it moves past stage 1 while it is bound so.
func (r *Report) allMoved(serial string) (string, bool) {
	d := r.disk(serial)
	moved, elsewhere := r.split(r.stream(serial).Moved)
	return fmt.Sprintf("%s under stages to %s, %d bytes otherwise", size(int64(moved)), r.Mode.disposition(), elsewhere),
		elsewhere == 0 && moved >= uint64(d.Written+d.Read) && d.Read > 0
}

// messages: as allMoved, of the interrupts that the disk sent.
func (r *Report) messages(serial string) (string, bool) {
	sent, elsewhere := r.split(r.stream(serial).Messages)
	return fmt.Sprintf("%d messages under stages to %s, %d otherwise", sent, r.Mode.disposition(), elsewhere), elsewhere == 0 && sent > 0
}

// split is what an endpoint did under stages with the disposition of the mode, and what otherwise, but for what it did past stage 1
// while it was to be bound so.
func (r *Report) split(counts map[string]uint64) (expected, elsewhere uint64) {
	want := r.Mode.disposition()
	for disposition, n := range counts {
		switch {
		case disposition == want:
			expected += n
		case !(r.Mode.Rebind && disposition == bridge.Bypass.String()):
			elsewhere += n
		}
	}
	return expected, elsewhere
}

func (r *Report) stream(endpoint string) Stream {
	if i := slices.IndexFunc(r.Streams, func(s Stream) bool { return s.Endpoint == endpoint }); i >= 0 {
		return r.Streams[i]
	}
	return Stream{}
}

func (r *Report) disk(serial string) Disk {
	if i := slices.IndexFunc(r.Disks, func(d Disk) bool { return d.Serial == serial }); i >= 0 {
		return r.Disks[i]
	}
	return Disk{Error: NotTested}
}

func size(n int64) string { return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20)) }

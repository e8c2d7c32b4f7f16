package labtest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/bridge/bridgetest"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// limits are the beginnings of reasons for which tests may be skipped: what the emulated hardware does not have. A test that
// is skipped for another has not been looked at by anyone, and is a failure.
var limits = []string{
	"QEMU: ",
	"the host has no IDR0.",
	"the host does not have it",
	"the host executes in hardware",
	"the host has no such stage 2",
	"the host's IDR0.STALL_MODEL is not 0b00",
	"the devices have no SubstreamIDs",
}

// checks is all that has to hold. Each says what it saw, and whether that is how it should be.
var checks = []struct {
	name  string
	judge func(*Report) (detail string, ok bool)
}{
	{"the host's kernel lets a guest have its SMMU", func(r *Report) (string, bool) {
		return fmt.Sprintf("Linux %s, IDR0 to IDR5 %s", r.Kernel, strings.Join(r.SMMU.IDR[:], " ")), r.SMMU.IDR[0] != ""
	}},
	{"every state of the thread, from each to each", passed(conformance+bridgetest.PartCapabilities, conformance+bridgetest.PartClaim, conformance+bridgetest.PartGuestIDs,
		conformance+bridgetest.PartStates, conformance+bridgetest.PartIdentity)},
	{"every layout of a CD table that the host has; the others refused by name", passed(conformance+bridgetest.PartTables, testKernelTakesWhatTheHostOffers, conformance+bridgetest.PartRejected)},
	{"DMA lands where the guest's tables say", passed(conformance+bridgetest.PartGranules, conformance+bridgetest.PartPermissions, conformance+bridgetest.PartTwoStreams, testKernelMemoryFollowsSlots)},
	{"what is withdrawn is out of reach after SYNC", passed(conformance+bridgetest.PartInvalidate, conformance+bridgetest.PartInFlight, conformance+bridgetest.PartClose, testKernelTranslationsOfNobody)},
	{"faults arrive with the guest's StreamID", passed(conformance+bridgetest.PartFaults, testKernelCDOutsideMemory, testKernelCountsLostEvents)},
	{"a batch of commands is one request", passed(testKernelOneRequestABatch, testKernelTakesCommandsOfAnyGuest)},
	{"the whole device, from the guest's registers to DMA and back", passed(testKernelWholeDevice)},
	{"a guest's SMMU is saved, and restored on another host", passed(testKernelGuestMoves)},
	{"what cannot be passed through is refused, with what to do", passed(testKernelRefusals, testKernelSharedGroup, testKernelNoPermission, testUnnestedKernel,
		testStage1Kernel, testStage2Kernel, testIncoherentKernel)},
	{"a closed host gives every object back", passed(testKernelGivesEverythingBack)},
	{"a device that is taken away in mid-DMA harms nobody", passed(testKernelDeviceVanishes)},
	{"the test VMM runs guests, and ends them, as its tests say", passed(testMachineEndsAsTheGuestAsks, testMachineEndsWithItsContext,
		testMachineBootsAgainAfterAReset, testMachineInterrupts, testAccessThatCannotBeEmulatedEndsTheMachine)},
	{"no test failed", func(r *Report) (string, bool) {
		n := r.count(Fail)
		return fmt.Sprintf("%d passed, %d failed, %d not run", r.count(Pass), n, r.count(Skip)), n == 0 && r.count(Pass) > 0
	}},
	{"what was not run is beyond the emulated hardware", func(r *Report) (string, bool) {
		for _, t := range r.Tests {
			if t.Outcome == Skip && !t.limited() {
				return t.String(), false
			}
		}
		return fmt.Sprintf("%d tests: listed above", r.count(Skip)), true
	}},
	{"every iommufd object is gone", func(r *Report) (string, bool) {
		return fmt.Sprintf("%d left by %d hosts, after %d ioctls", r.Figures.Objects, r.Figures.Hosts, r.Figures.Ioctls),
			r.Figures.Objects == 0 && r.Figures.Hosts > 0
	}},
	{"the guest was rebooted, and once crashed, and powered off", func(r *Report) (string, bool) {
		var ends []string
		for _, b := range r.Guest.Boots {
			ends = append(ends, fmt.Sprintf("%s after %.0f s", b.End, b.Time))
		}
		return fmt.Sprintf("Linux %s: %s", r.Guest.Release, strings.Join(ends, ", ")), slices.EqualFunc(r.Guest.Boots,
			[]string{guest.EndReboot, guest.EndCrash, guest.EndPowerOff}, func(b machine.Boot, end string) bool { return b.End == end })
	}},
	{"both disks are behind one SMMU, each with its own host", func(r *Report) (string, bool) {
		hosts := map[string]int{}
		for _, s := range r.Guest.Streams {
			if translated(s) {
				hosts[s.Host]++
			}
		}
		// The NVMe disk has had two StreamIDs.
		return fmt.Sprintf("streams that were translated, by host: %v", hosts), hosts["iommufd"] == 2 && hosts["soft"] == 1
	}},
	{"the NVMe disk's StreamID followed the number of its bus", func(r *Report) (string, bool) {
		m := r.Guest.Moved
		at := func(id uint32, attached bool) func(machine.Place) bool {
			return func(p machine.Place) bool { return p == machine.Place{StreamID: id, Attached: attached} }
		}
		i := slices.IndexFunc(r.Guest.Places, at(m.From, false))
		if m.From == m.To || i < 1 || i+1 == len(r.Guest.Places) || !at(m.From, true)(r.Guest.Places[i-1]) || !at(m.To, true)(r.Guest.Places[i+1]) {
			return fmt.Sprintf("the guest has moved it from %#x to %#x: %+v", m.From, m.To, r.Guest.Places), false
		}
		// Its bytes were verified with the new one, which is bound as the old one was.
		j := slices.IndexFunc(r.Guest.Streams, func(s machine.Stream) bool { return s.StreamID == m.To })
		return fmt.Sprintf("%#x was detached, %#x attached and bound", m.From, m.To), j >= 0 && translated(r.Guest.Streams[j])
	}},
	{"the NVMe disk interrupted by INTx where it was not let send messages", func(r *Report) (string, bool) {
		n := r.Guest.Interrupts
		return fmt.Sprintf("%d times, and %d times by messages", n.Line, n.Messages), n.Line > 0 && n.Messages == 0
	}},
	{"both were written, read back and verified at every step", func(r *Report) (string, bool) {
		done := 0
		for _, name := range guest.LabSteps {
			i := slices.IndexFunc(r.Guest.Steps, func(s Step) bool { return s.Name == name })
			if i < 0 {
				return "not " + name, false
			}
			for _, d := range r.Guest.Steps[i].Disks {
				switch {
				case d.Error != "":
					return fmt.Sprintf("%s, %s: %s", d.Serial, name, d.Error), false
				case d.Verified != guest.LabSize(name) || d.IOMMU != guest.DomainStrict:
					return fmt.Sprintf("%s, %s: %d bytes verified, domain %q", d.Serial, name, d.Verified, d.IOMMU), false
				}
				done++
			}
		}
		return strings.Join(guest.LabSteps, "; "), done == 2*len(guest.LabSteps)
	}},
	{"what the guest wrote is where the disks have their bytes from", func(r *Report) (string, bool) {
		if r.Guest.VirtioError != "" {
			return "the emulated disk: " + r.Guest.VirtioError, false
		}
		return fmt.Sprintf("%d bytes of the NVMe disk, %d of the emulated one", r.Guest.NVMe, r.Guest.Virtio),
			r.Guest.NVMe == guest.TestSize && r.Guest.Virtio == guest.TestSize
	}},
	{"a DMA that the guest never mapped was recorded, and its kernel reported it", func(r *Report) (string, bool) {
		recorded := slices.ContainsFunc(r.Guest.Events, func(e machine.Event) bool {
			return e.Name == smmuv3.FTranslation.String() && r.Guest.Stray.Address != 0 && e.Address&^0xfff == r.Guest.Stray.Address
		})
		// Up to 6.14 the number of the record, from then on its name, too.
		i := slices.IndexFunc(r.Guest.Stray.Kernel, func(line string) bool {
			return strings.Contains(line, "event 0x10 received") || strings.Contains(line, "event: F_TRANSLATION")
		})
		if i < 0 || !recorded {
			return fmt.Sprintf("recorded: %v; lines of the kernel's: %q", recorded, r.Guest.Stray.Kernel), false
		}
		return r.Guest.Stray.Kernel[i], true
	}},
	{"a kernel that found the SMMU enabled took it over", func(r *Report) (string, bool) {
		i := slices.IndexFunc(r.Guest.TakenOver, func(line string) bool { return strings.Contains(line, "SMMU currently enabled") })
		if i < 0 {
			return fmt.Sprintf("it did not say so: %q", r.Guest.TakenOver), false
		}
		return r.Guest.TakenOver[i], true
	}},
	{"the host took the NVMe disk back in mid-DMA, and nothing else was lost", func(r *Report) (string, bool) {
		lost, removed := r.Guest.Lost, r.Guest.Removed
		if removed == nil || removed.Error != "" {
			return fmt.Sprintf("the host has not got it: %+v", removed), false
		}
		if lost.Virtio.Error != "" || lost.Virtio.Verified != guest.LabSize(guest.StepTakenOver) {
			return fmt.Sprintf("the emulated disk: %d bytes verified after, %s", lost.Virtio.Verified, lost.Virtio.Error), false
		}
		last := len(r.Guest.Places) - 1
		detached := last >= 0 && !r.Guest.Places[last].Attached && r.Guest.Places[last].Error == ""
		return fmt.Sprintf("%d bytes were read, then: %s; the host waited %.1f s; its stream was detached: %v", lost.Bytes, lost.Error, removed.Seconds, detached),
			lost.Bytes > 0 && lost.Error != "" && detached
	}},
	{"at most 1.1 invalidation ioctls for each CMD_SYNC of the NVMe disk", func(r *Report) (string, bool) {
		read, ok := r.read(guest.ReadStrict)
		return fmt.Sprintf("%d ioctls for %d CMD_SYNC with %d commands", read.Ioctls, read.Syncs, read.Commands),
			ok && read.Syncs > 0 && float64(read.Ioctls) <= 1.1*float64(read.Syncs)
	}},
	{"none has a single command where the guest gave more", func(r *Report) (string, bool) {
		read, ok := r.read(guest.ReadStrict)
		return fmt.Sprintf("%d have", read.Alone), ok && read.Commands > read.Syncs && read.Alone == 0
	}},
	{"the NVMe disk was read through stage 1 and past it, by turns", func(r *Report) (string, bool) {
		strict, ok1 := r.read(guest.ReadStrict)
		bypass, ok2 := r.read(guest.ReadBypass)
		return r.Speed.String(), r.Speed.Ratio > 0 && ok1 && ok2 && strict.IOMMU == guest.DomainStrict && bypass.IOMMU == guest.DomainIdentity
	}},
	{"neither kernel has anything to complain of", func(r *Report) (string, bool) {
		if len(r.Warnings) > 0 {
			return fmt.Sprintf("%d lines, the first: %s", len(r.Warnings), r.Warnings[0]), false
		}
		return "their logs show no warning", true
	}},
}

// Judge makes the checks. A run with an error is not OK, whatever the checks say.
func (r *Report) Judge() {
	r.Checks = nil
	r.Speed = speedOf(r.Guest.quickest(guest.ReadStrict), r.Guest.quickest(guest.ReadBypass))
	r.OK = r.Error == ""
	for _, c := range checks {
		detail, ok := c.judge(r)
		r.Checks = append(r.Checks, report.Check{Name: c.name, OK: ok, Detail: detail})
		r.OK = r.OK && ok
	}
}

// read is all measured reads of a name together.
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

// translated says whether a stream has ever been.
func translated(s machine.Stream) bool {
	return slices.ContainsFunc(s.Binds, func(bind string) bool { return strings.HasPrefix(bind, bridge.Translate.String()) })
}

// passed is a check that tests passed, and all of what they consist of that was run.
func passed(names ...string) func(*Report) (string, bool) {
	return func(r *Report) (string, bool) {
		parts := 0
		for _, name := range names {
			outcome := Outcome("not run")
			for _, t := range r.Tests {
				switch {
				case t.Name == name:
					outcome = t.Outcome
				case strings.HasPrefix(t.Name, name+"/") && t.Outcome == Pass:
					parts++
				}
			}
			if outcome != Pass {
				return fmt.Sprintf("%s: %s", name, outcome), false
			}
		}
		return fmt.Sprintf("%d tests passed, and %d that are parts of them", len(names), parts), true
	}
}

func (r *Report) count(o Outcome) (n int) {
	for _, t := range r.Tests {
		if t.Outcome == o {
			n++
		}
	}
	return n
}

// limited tells whether a test was skipped for what the emulated hardware does not have.
func (t Test) limited() bool {
	for _, limit := range limits {
		if strings.HasPrefix(t.Reason, limit) {
			return true
		}
	}
	return false
}

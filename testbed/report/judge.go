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

// when is the set of modes in which a check applies.
type when uint8

const (
	always when = iota
	translated
	byStage1
	byStage2
	passedThrough
	onPCI
	allOnPCI
	stalling
	rebound
	moved
	byTree
	byFirmware
	reserving
	removesTables
)

func (w when) holds(r *Report) bool {
	m := r.Mode
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
	case allOnPCI:
		return m.PCI && !m.Mixed
	case stalling:
		return m.Stalls && !m.Passthrough
	case rebound:
		return m.Rebind
	case moved:
		return m.Moves > 0
	case byFirmware:
		return m.UEFI
	case byTree:
		return !m.ACPI
	case reserving:
		return m.Reserved != ""
	case removesTables:
		return !m.Passthrough && !m.Quick && r.Guest.PageSize <= guest.TablePage // 0 until the init has spoken
	}
	return true
}

// point is a point in a boot. A check can hold only after its point. Judge leaves out the checks
// whose point a boot with an error did not reach.
type point uint8

const (
	started     point = iota // the guest's init has sent its first message
	plainTested              // the init has reported the test of the disk
	pasidTested
	bothTested
	strayed   // the rogue endpoint has made its DMA
	told      // the init has reported the fault
	described // the init has reported how the kernel found its hardware
	ended     // the guest has powered off
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
	case described:
		return r.Description != nil
	case ended:
		return r.Guest.Release != "" && r.Guest.PoweredOff
	}
	return r.Guest.Release != ""
}

// NotTested is the error of a disk whose test the guest has not reported.
const NotTested = "the guest did not test this disk"

// check is a statement about a boot. judge returns a detail, and whether the statement holds.
type check struct {
	name  string
	when  when
	after point
	judge func(*Report) (detail string, ok bool)
}

// eachDisk returns a check for each of the two disks that the guest tests.
func eachDisk(name string, when when, judge func(r *Report, serial string) (detail string, ok bool)) []check {
	of := func(serial string, tested point) check {
		return check{serial + ": " + name, when, tested, func(r *Report) (string, bool) { return judge(r, serial) }}
	}
	return []check{of(guest.Plain, plainTested), of(guest.PASID, pasidTested)}
}

// messageChecks returns eachDisk for the disks that are PCI functions: the first one, or all.
func messageChecks() []check {
	checks := eachDisk("its interrupts took the same stage as its data", onPCI, (*Report).messages)
	checks[1].when = allOnPCI
	return checks
}

// checks has the statements that must hold.
var checks = slices.Concat([]check{
	{"the guest reached its user space", always, started, (*Report).reachedUserSpace},
	{"the guest's driver probed the SMMU", always, strayed, (*Report).probed},
	{"the disks have the domains that the command line asks for", always, bothTested, (*Report).hasDomains},
	{"plain: stage 1 has a single Context Descriptor", byStage1, plainTested, (*Report).hasSingleCD},
	{"pasid: stage 1 has a table of Context Descriptors", byStage1, pasidTested, (*Report).hasCDTable},
	{"plain, pasid: stage 2 has separate tables and VMIDs", byStage2, bothTested, (*Report).hasSeparateStage2},
},
	eachDisk("its stage is bypass", passedThrough, (*Report).bypassed),
	eachDisk("all data was written, read back and verified", always, (*Report).diskDone),
	eachDisk("every byte moved through stage 1", byStage1, (*Report).allMoved),
	eachDisk("every byte moved through stage 2", byStage2, (*Report).allMoved),
	[]check{
		{"the guest invalidated by IPA and VMID, and not by commands of stage 1", byStage2, bothTested,
			(*Report).invalidatedStage2},
	},
	[]check{
		{"the guest removed translation tables, and invalidated them by TLBIs with Leaf = 0", removesTables, bothTested,
			(*Report).invalidatedTables},
	},
	eachDisk("every byte bypassed stage 1", passedThrough, (*Report).allMoved),
	messageChecks(),
	eachDisk("its driver was unbound and bound again, bypassing stage 1 once", rebound, (*Report).rebound),
	[]check{
		{"each stream bypassed the SMMU in the firmware, and translated under the guest's driver", byFirmware,
			bothTested, (*Report).handedOver},
		{"esp: the firmware read kernel and initramfs past the SMMU, and the kernel read through it", byFirmware,
			bothTested, (*Report).bootedFromDisk},
		{"the guest rebooted through the firmware", byFirmware, bothTested, (*Report).rebooted},
		{"the SMMU was saved, discarded and restored during the disks' requests", moved, bothTested,
			(*Report).wasMoved},
		{"rogue: its DMA to an unmapped address failed", always, strayed, (*Report).strayFailed},
		{"rogue: the device recorded F_TRANSLATION", translated, strayed, (*Report).strayRecorded},
		{"rogue: no other endpoint may stall", stalling, strayed, (*Report).rogueAloneStalls},
		{"rogue: its DMA stalled until the guest's driver aborted it", stalling, strayed, (*Report).strayStalled},
		{"rogue: the guest's kernel printed the fault", translated, told, (*Report).strayPrinted},
		{"the guest's driver reported no error", always, strayed, (*Report).noDriverError},
		{"no other fault was recorded", always, strayed, (*Report).noOtherFault},
		{"the device consumed commands and signalled interrupts", always, strayed, (*Report).deviceWorked},
		{"the guest's kernel found its hardware as the boot describes it", always, described,
			ofDescription((*Report).foundHardware)},
		{"the guest's kernel found no fault in the description", always, described,
			ofDescription((*Report).noFirmwareBug)},
		{"the SMMU's interrupts are where the description says", always, described,
			ofDescription((*Report).smmuInterrupts)},
		{"the disks' interrupts are where the description says", always, described,
			ofDescription((*Report).diskInterrupts)},
		{"the device tree has interrupt-parent, dma-coherent and ats-supported", byTree, described,
			ofDescription((*Report).treeComplete)},
		{"the guest's kernel identity-maps the reserved range", reserving, described,
			ofDescription((*Report).mapsReserved)},
		{"the guest powered off", always, ended, (*Report).poweredOff},
	})

func (r *Report) reachedUserSpace() (string, bool) {
	g := r.Guest
	return fmt.Sprintf("Linux %s, %d KiB pages, %d CPUs", g.Release, g.PageSize>>10, g.CPUs), g.Release != ""
}

func (r *Report) probed() (string, bool) {
	// The last line that the driver prints about the ID registers, in every kernel since 4.2.
	i := slices.IndexFunc(r.Probe, func(line string) bool { return strings.Contains(line, "(features 0x") })
	if i < 0 {
		return fmt.Sprintf("none of the driver's %d lines has the features", len(r.Probe)), false
	}
	return r.Probe[i], true
}

func (r *Report) hasDomains() (string, bool) {
	plain, pasid, want := r.disk(guest.Plain).IOMMU, r.disk(guest.PASID).IOMMU, r.Mode.domain()
	return fmt.Sprintf("plain has %q, pasid %q", plain, pasid), plain == want && pasid == want
}

func (r *Report) hasSingleCD() (string, bool) {
	bind, ok := r.lastStage(guest.Plain)
	return bind.Text, ok && bind.S1CDMax == 0
}

func (r *Report) hasCDTable() (string, bool) {
	bind, ok := r.lastStage(guest.PASID)
	s1cdmax, s1fmt := r.cdTable()
	return bind.Text, ok && bind.S1CDMax > 0 && bind.S1CDMax == s1cdmax && bind.S1Fmt == s1fmt &&
		bind.S1DSS == smmuv3.S1DSSSubstream0.String()
}

func (r *Report) hasSeparateStage2() (string, bool) {
	plain, ok := r.lastStage(guest.Plain)
	pasid, okToo := r.lastStage(guest.PASID)
	return plain.Text + "; " + pasid.Text, ok && okToo && plain.S2 != nil && pasid.S2 != nil &&
		plain.S2VMID != pasid.S2VMID && plain.S2.TTB != pasid.S2.TTB
}

func (r *Report) invalidatedStage2() (string, bool) {
	ipa, vmid := r.Commands[smmuv3.OpTLBIS2IPA.String()], r.Commands[smmuv3.OpTLBIS12VMAll.String()]
	var stage1 uint64
	for _, op := range []smmuv3.Opcode{smmuv3.OpTLBINHAll, smmuv3.OpTLBINHASID, smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA} {
		stage1 += r.Commands[op.String()]
	}
	// With iommu.strict=0, invalidations by VMID are enough.
	return fmt.Sprintf("%d TLBI_S2_IPA, %d TLBI_S12_VMALL, %d of stage 1", ipa, vmid, stage1),
		(ipa > 0 || r.Mode.Lazy) && vmid > 0 && stage1 == 0
}

// invalidatedTables expects a TLBI for each table that a disk's write and read filled.
func (r *Report) invalidatedTables() (string, bool) {
	t, moved := r.Removed, min(r.disk(guest.Plain).Table, r.disk(guest.PASID).Table)
	return fmt.Sprintf("%d, %d of them with a TTL hint, for tables that mapped %s of each disk",
			t.TLBI, t.Hinted, size(moved)),
		moved >= guest.TableSize && t.TLBI >= 4
}

func (r *Report) wasMoved() (string, bool) {
	m := r.Moves
	detail := fmt.Sprintf("%d of %d times", m.Made, r.Mode.Moves)
	if m.Made == 0 || len(m.At) != m.Made {
		return detail, false
	}
	first, last := m.At[0], m.At[m.Made-1]
	return fmt.Sprintf("%s, after %s to %s of %s of DMA; states of up to %d bytes; %.1f ms at most", detail,
			size(int64(first)), size(int64(last)), size(int64(m.DMA)), m.StateBytes, 1000*m.Longest),
		m.Made == r.Mode.Moves && last < m.DMA
}

// strayFailed holds with a bypass too: there is no memory at the address.
func (r *Report) strayFailed() (string, bool) {
	if !r.Fault.Made {
		return "there was no DMA", false
	}
	return r.Fault.Error, r.Fault.Error != ""
}

func (r *Report) strayRecorded() (string, bool) {
	if len(r.Fault.Device) == 0 {
		return "no event was recorded", false
	}
	e := r.Fault.Device[0]
	stage := 1
	if e.Stage2 {
		stage = 2
	}
	detail := fmt.Sprintf("%s, stage %d, stream %#x, at %#x", e.Name, stage, e.StreamID, e.Address)
	return detail, e.Type == uint8(smmuv3.FTranslation) && e.Stage2 == r.Mode.Stage2 &&
		e.StreamID == r.Fault.StreamID && e.Address == r.Fault.Address
}

func (r *Report) rogueAloneStalls() (string, bool) {
	rogue, bound := r.lastStage(guest.Rogue)
	plain, _ := r.lastStage(guest.Plain)
	pasid, _ := r.lastStage(guest.PASID)
	return fmt.Sprintf("S1STALLD: rogue %t, plain %t, pasid %t", rogue.S1STALLD, plain.S1STALLD, pasid.S1STALLD),
		bound && !rogue.S1STALLD && plain.S1STALLD && pasid.S1STALLD
}

func (r *Report) strayStalled() (string, bool) {
	if len(r.Fault.Device) == 0 || !r.Fault.Device[0].Stall {
		return "the DMA did not stall", false
	}
	stalled := Resume{r.Fault.StreamID, r.Fault.Device[0].STAG, ResumeAbort}
	return fmt.Sprintf("STAG %#x; CMD_RESUME: %+v", stalled.STAG, r.Fault.Resumes),
		slices.Equal(r.Fault.Resumes, []Resume{stalled})
}

func (r *Report) strayPrinted() (string, bool) {
	// Kernels up to 6.14 print the record's number, later ones its name.
	i := slices.IndexFunc(r.Fault.Kernel, func(line string) bool {
		return strings.Contains(line, "event 0x10 received") || strings.Contains(line, "event: F_TRANSLATION")
	})
	if i < 0 {
		return fmt.Sprintf("none of %d lines has the fault", len(r.Fault.Kernel)), false
	}
	return r.Fault.Kernel[i], true
}

func (r *Report) noDriverError() (string, bool) {
	said := slices.Concat(r.Probe, r.Fault.Kernel)
	if i := slices.IndexFunc(said, complains); i >= 0 {
		return said[i], false
	}
	return fmt.Sprintf("%d lines", len(said)), true
}

// noOtherFault reports whether the stray DMA's faults are the only events.
func (r *Report) noOtherFault() (string, bool) {
	translation := r.Events[smmuv3.FTranslation.String()]
	var all uint64
	for _, n := range r.Events {
		all += n
	}
	return fmt.Sprintf("%d events", all), all == translation && translation == uint64(len(r.Fault.Device))
}

func (r *Report) deviceWorked() (string, bool) {
	syncs, stes := r.Commands[smmuv3.OpSync.String()], r.Commands[smmuv3.OpCfgiSTE.String()]
	events := r.Interrupts[vsmmu.LineEventQ.String()]
	return fmt.Sprintf("%d SYNC, %d CFGI_STE, %d event interrupts", syncs, stes, events),
		syncs > 0 && stes > 0 && (events > 0) == (len(r.Fault.Device) > 0)
}

func (r *Report) poweredOff() (string, bool) {
	if !r.Guest.PoweredOff {
		return "the guest did not power off", false
	}
	return "its init powered it off", true
}

// complaints are words in the driver's messages about a failing SMMU: a command that times out, an
// error in a queue, lost events, a register that does not change. The driver's messages about an
// endpoint's fault do not contain them.
var complaints = []string{"timeout", "error", "overflow", "aborted", "failed", "Failure", "not responding"}

func complains(line string) bool {
	return slices.ContainsFunc(complaints, func(word string) bool { return strings.Contains(line, word) })
}

// Judge makes the checks. A boot with an error is not OK, and is judged only by the checks that it
// reached: all others would repeat the error.
func (r *Report) Judge() {
	r.Checks = []Check{}
	r.OK = r.Error == ""
	for _, c := range checks {
		if !c.when.holds(r) || r.Error != "" && !c.after.reached(r) {
			continue
		}
		detail, ok := c.judge(r)
		r.Checks = append(r.Checks, Check{c.name, ok, detail})
		r.OK = r.OK && ok
	}
}

// lastStage returns the stage with which an endpoint did its DMA: the last one with the mode's
// disposition that was bound while the SMMU was enabled.
func (r *Report) lastStage(endpoint string) (asjson.Bind, bool) {
	want := r.Mode.disposition()
	for _, b := range slices.Backward(r.stream(endpoint).Binds) {
		if b.Disposition == want && !b.SMMUDisabled && b.Error == "" {
			return b, true
		}
	}
	return asjson.Bind{Text: fmt.Sprintf("no stage with disposition %q was bound", want)}, false
}

func (r *Report) bypassed(endpoint string) (string, bool) {
	bind, ok := r.lastStage(endpoint)
	return bind.Text, ok
}

func (r *Report) diskDone(serial string) (string, bool) {
	d := r.disk(serial)
	detail := fmt.Sprintf("%s written, %s read, %s verified, %s correct in the backing file",
		size(d.Written), size(d.Read), size(d.Verified), size(d.Backing))
	if d.Error != "" {
		return d.Error, false
	}
	return detail, min(d.Written, d.Read, d.Verified, d.Backing) >= guest.SizeOf(r.Mode.Quick)
}

// rebound judges the reads that verified the disk, first while the disk bypassed stage 1, then
// after that.
func (r *Report) rebound(serial string) (string, bool) {
	d, past := r.disk(serial), r.stream(serial).Moved[bridge.Bypass.String()]
	if d.Rebound == nil {
		return "the guest did not report it", false
	}
	return fmt.Sprintf("%s verified with domain %q, %s after that with %q; %s bypassed stage 1",
			size(d.Rebound.Identity), guest.DomainIdentity, size(d.Rebound.Before), d.IOMMU, size(int64(past))),
		min(d.Rebound.Identity, d.Rebound.Before) >= guest.RebindSize && past >= uint64(d.Rebound.Identity)
}

// allMoved reports whether the disk moved all of the guest's data under stages with the mode's
// disposition, and nothing under any other. With Rebind or UEFI, bytes that bypass stage 1 do not count.
func (r *Report) allMoved(serial string) (string, bool) {
	d := r.disk(serial)
	moved, elsewhere := r.split(r.stream(serial).Moved)
	return fmt.Sprintf("%s by stages that %s, %d bytes by others", size(int64(moved)), r.Mode.disposition(), elsewhere),
		elsewhere == 0 && moved >= uint64(d.Written+d.Read) && d.Read > 0
}

// messages is allMoved for the interrupts that the disk sent.
func (r *Report) messages(serial string) (string, bool) {
	sent, elsewhere := r.split(r.stream(serial).Messages)
	return fmt.Sprintf("%d messages by stages that %s, %d by others", sent, r.Mode.disposition(), elsewhere),
		elsewhere == 0 && sent > 0
}

// split adds up an endpoint's counts. expected has the counts of stages with the mode's
// disposition, and elsewhere has the other counts. With Rebind or UEFI, neither has the counts that
// bypassed stage 1.
func (r *Report) split(counts map[string]uint64) (expected, elsewhere uint64) {
	want := r.Mode.disposition()
	for disposition, n := range counts {
		switch {
		case disposition == want:
			expected += n
		case !((r.Mode.Rebind || r.Mode.UEFI) && disposition == bridge.Bypass.String()):
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

package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// ofDescription returns a judge that fails if the guest did not report its description.
func ofDescription(judge func(*Report) (string, bool)) func(*Report) (string, bool) {
	return func(r *Report) (string, bool) {
		if r.Description == nil {
			return "the guest did not report it", false
		}
		return judge(r)
	}
}

// foundHardware reports whether the guest read what the boot described the machine by.
func (r *Report) foundHardware() (string, bool) {
	want := guest.ByTree
	if r.Mode.ACPI {
		want = guest.ByACPI
	}
	return "by " + r.Description.By, r.Description.By == want
}

func (r *Report) noFirmwareBug() (string, bool) {
	if bugs := r.Description.Bugs; len(bugs) > 0 {
		return bugs[0], false
	}
	return "no line of its log blames the firmware", true
}

// smmuHandlers are the names of the Linux driver's handlers. It has none for CMD_SYNC: it polls.
var smmuHandlers = map[vsmmu.Line]string{
	vsmmu.LineEventQ: "arm-smmu-v3-evtq", vsmmu.LineGError: "arm-smmu-v3-gerror", vsmmu.LinePRIQ: "arm-smmu-v3-priq",
}

// smmuInterrupts compares the handlers of all SMMUs with their wires, or finds them at the ITS.
func (r *Report) smmuInterrupts() (string, bool) {
	messages := r.smmuSendsMessages()
	ok := true
	var seen []string
	for _, line := range []vsmmu.Line{vsmmu.LineEventQ, vsmmu.LineGError, vsmmu.LinePRIQ} {
		var want, got []uint64
		for _, s := range r.Wiring.SMMUs {
			want = append(want, uint64(s[line.String()]))
		}
		if line == vsmmu.LinePRIQ && r.id(smmuv3.PRI) == 0 {
			want = nil
		}
		var count uint64
		for _, i := range r.rows(smmuHandlers[line]) {
			got = append(got, i.Number)
			count += i.Count
			ok = ok && (messages && i.Message() || !messages && i.Wired())
			name := strings.TrimPrefix(i.Handler, "arm-smmu-v3-")
			seen = append(seen, fmt.Sprintf("%s %s %d", name, i.Chip, i.Number))
		}
		ok = ok && len(got) == len(want)
		if !messages {
			slices.Sort(got)
			slices.Sort(want)
			ok = ok && slices.Equal(got, want)
		}
		if line == vsmmu.LineEventQ && len(r.Fault.Device) > 0 {
			ok = ok && count > 0 // the fault's
		}
	}
	return strings.Join(seen, ", "), ok
}

// smmuSendsMessages reports whether the guest's kernel makes the SMMU send messages in place of
// wired interrupts. It does if the SMMU and an ITS can, and if the kernel finds the DeviceID. An
// IORT always has it, but before Linux 6.5, which knows node revision 5, the kernel only looks for
// it if a GSIV is missing.
func (r *Report) smmuSendsMessages() bool {
	if !r.Wiring.ITS || r.id(smmuv3.MSI) == 0 {
		return false
	}
	allWired := !slices.ContainsFunc(r.Wiring.SMMUs, func(s map[string]uint32) bool { return len(s) < 4 })
	return !r.Mode.ACPI || !allWired || !olderThan(r.Guest.Release, 6, 5)
}

func olderThan(release string, major, minor int) bool {
	var a, b int
	_, err := fmt.Sscanf(release, "%d.%d", &a, &b)
	return err == nil && (a < major || a == major && b < minor)
}

// diskInterrupts compares the disks' handlers with their wires, or finds them at the ITS. Each disk
// has interrupted: the kernel reads the first sectors of all.
func (r *Report) diskInterrupts() (string, bool) {
	var wired, chips []string
	var intids []uint64
	counts := map[string]uint64{} // by device
	ok := true
	for _, i := range r.rows("virtio") {
		device, _, _ := strings.Cut(i.Handler, "-")
		counts[device] += i.Count
		if i.Wired() {
			intids = append(intids, i.Number)
			wired = append(wired, fmt.Sprintf("%s %s %d", device, i.Chip, i.Number))
			continue
		}
		ok = ok && i.Message()
		if !slices.Contains(chips, i.Chip) {
			chips = append(chips, i.Chip)
		}
	}
	for _, n := range counts {
		ok = ok && n > 0
	}
	want := make([]uint64, 0, len(r.Wiring.Disks))
	for _, intid := range r.Wiring.Disks {
		want = append(want, uint64(intid))
	}
	slices.Sort(intids)
	slices.Sort(want)
	return fmt.Sprintf("%d disks: %s", len(counts), strings.Join(append(wired, chips...), ", ")),
		ok && len(counts) == len(r.Wiring.Disks)+r.Wiring.Functions && slices.Equal(intids, want)
}

// rows returns the interrupts whose handlers' names begin with a prefix.
func (r *Report) rows(prefix string) (rows []guest.Interrupt) {
	for _, i := range r.Description.Interrupts {
		if strings.HasPrefix(i.Handler, prefix) {
			rows = append(rows, i)
		}
	}
	return rows
}

func (r *Report) treeComplete() (string, bool) {
	masters, bridges := 0, 0
	for _, n := range r.Description.Nodes {
		if n.Interrupts && !n.Parent {
			return n.Path + " has interrupts and no interrupt-parent", false
		}
		if n.Master {
			masters++
			if !n.Coherent {
				return n.Path + " is a master without dma-coherent", false
			}
		}
		if n.Bridge {
			bridges++
			if want := r.id(smmuv3.ATS) == 1; n.ATS != want {
				return fmt.Sprintf("%s has ats-supported: %t; IDR0.ATS: %t", n.Path, n.ATS, want), false
			}
		}
	}
	return fmt.Sprintf("%d nodes with interrupts or DMA, %d masters, %d host bridges",
			len(r.Description.Nodes), masters, bridges),
		masters > 0 && (bridges > 0) == r.Mode.PCI
}

func (r *Report) mapsReserved() (string, bool) {
	return fmt.Sprintf("%q", r.Description.Reserved), slices.Contains(r.Description.Reserved, r.Mode.Reserved)
}

package report

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/internal/asjson"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
)

const (
	hardwareCheck = "the guest's kernel found its hardware as the boot describes it"
	bugCheck      = "the guest's kernel found no fault in the description"
	smmuCheck     = "the SMMU's interrupts are where the description says"
	diskCheck     = "the disks' interrupts are where the description says"
	treeCheck     = "the device tree has interrupt-parent, dma-coherent and ats-supported"
	reservedCheck = "the guest's kernel identity-maps the reserved range"
)

// byACPI changes a report to the report of a boot by ACPI.
func byACPI(r *Report) { r.Mode.ACPI, r.Description.By, r.Description.Nodes = true, "ACPI", nil }

// show makes the guest read a value of a field of IDR0.
func show(r *Report, field string, value uint32) {
	r.IDs = append(r.IDs, asjson.ID{Register: "IDR0", Field: field, Guest: value})
}

// messages makes the SMMU's interrupts messages.
func messages(r *Report) {
	for i := range r.Description.Interrupts[:2] {
		r.Description.Interrupts[i].Chip, r.Description.Interrupts[i].Number = "ITS-MSI", 0
	}
}

func TestDescriptionOfTheHardware(t *testing.T) {
	allWires := func(r *Report) {
		r.Wiring.SMMUs[0]["priq"], r.Wiring.SMMUs[0]["cmdq-sync"] = 41, 43
		show(r, "PRI", 1)
		r.Description.Interrupts = append(r.Description.Interrupts, guest.Interrupt{Handler: "arm-smmu-v3-priq", Chip: "GICv3", Number: 41})
	}
	node := func(path string) func(*Report) *guest.Node {
		return func(r *Report) *guest.Node {
			return &r.Description.Nodes[slices.IndexFunc(r.Description.Nodes, func(n guest.Node) bool { return n.Path == path })]
		}
	}
	disk := node("/virtio_mmio@a000000")
	bridge := guest.Node{Path: "/pcie@3f000000", Master: true, Coherent: true, Bridge: true}
	onPCI := func(r *Report) {
		r.Mode.PCI, r.Description.Nodes = true, []guest.Node{bridge}
		for i := range r.Streams {
			r.Streams[i].Messages = map[string]uint64{"translate": 1}
		}
	}
	for _, tt := range []struct {
		name  string
		edits []func(*Report)
		fails []string
	}{
		{"by ACPI", []func(*Report){byACPI}, nil},
		{"by ACPI, but the boot has a tree", []func(*Report){byACPI, func(r *Report) { r.Mode.ACPI = false }}, []string{hardwareCheck, treeCheck}},
		{"not reported", []func(*Report){func(r *Report) { r.Description = nil }}, []string{hardwareCheck, bugCheck, smmuCheck, diskCheck, treeCheck}},
		{"a firmware bug", []func(*Report){func(r *Report) { r.Description.Bugs = []string{"[Firmware Bug]"} }}, []string{bugCheck}},

		{"another INTID of the SMMU", []func(*Report){func(r *Report) { r.Description.Interrupts[0].Number = 41 }}, []string{smmuCheck}},
		{"no event interrupt although there was an event", []func(*Report){func(r *Report) { r.Description.Interrupts[0].Count = 0 }}, []string{smmuCheck}},
		{"messages of an SMMU that sends none", []func(*Report){messages}, []string{smmuCheck}},
		{"messages", []func(*Report){messages, func(r *Report) { show(r, "MSI", 1) }}, nil},
		{"wires of an SMMU that sends messages", []func(*Report){func(r *Report) { show(r, "MSI", 1) }}, []string{smmuCheck}},
		{"messages without an ITS", []func(*Report){messages, func(r *Report) { show(r, "MSI", 1); r.Wiring.ITS = false }}, []string{smmuCheck}},
		{"a PRI queue without its interrupt", []func(*Report){func(r *Report) { show(r, "PRI", 1); r.Wiring.SMMUs[0]["priq"] = 41 }}, []string{smmuCheck}},
		{"all wires", []func(*Report){allWires}, nil},
		{"all wires and MSI: Linux 6.1 does not look for the DeviceID", []func(*Report){byACPI, allWires, func(r *Report) { show(r, "MSI", 1) }}, nil},
		{"all wires and MSI: Linux 7.3 does", []func(*Report){byACPI, allWires, func(r *Report) { show(r, "MSI", 1); r.Guest.Release = "7.3.4" }}, []string{smmuCheck}},
		{"a second SMMU", []func(*Report){func(r *Report) {
			r.Wiring.SMMUs = append(r.Wiring.SMMUs, map[string]uint32{"eventq": 80, "gerror": 82})
			r.Description.Interrupts = append(r.Description.Interrupts,
				guest.Interrupt{Handler: "arm-smmu-v3-gerror", Chip: "GICv3", Number: 82}, guest.Interrupt{Handler: "arm-smmu-v3-evtq", Chip: "GICv3", Number: 80})
		}}, nil},
		{"a second SMMU that no driver has", []func(*Report){func(r *Report) {
			r.Wiring.SMMUs = append(r.Wiring.SMMUs, map[string]uint32{"eventq": 80, "gerror": 82})
		}}, []string{smmuCheck}},

		{"another INTID of a disk", []func(*Report){func(r *Report) { r.Description.Interrupts[3].Number = 50 }}, []string{diskCheck}},
		{"a disk that never interrupted", []func(*Report){func(r *Report) { r.Description.Interrupts[3].Count = 0 }}, []string{diskCheck}},
		{"a disk without an interrupt", []func(*Report){func(r *Report) { r.Description.Interrupts = r.Description.Interrupts[:3] }}, []string{diskCheck}},
		{"functions", []func(*Report){onPCI, func(r *Report) {
			r.Wiring.Disks, r.Wiring.Functions = nil, 2
			for i, handler := range []string{"virtio0-config", "virtio0-req.0", "virtio1-config", "virtio1-req.0"} {
				r.Description.Interrupts = append(r.Description.Interrupts[:2+i], guest.Interrupt{Handler: handler, Chip: "ITS-MSI", Count: uint64(i % 2)})
			}
		}}, nil},
		{"functions with wires", []func(*Report){onPCI, func(r *Report) { r.Wiring.Disks, r.Wiring.Functions = nil, 2 }}, []string{diskCheck}},

		{"a node without interrupt-parent", []func(*Report){func(r *Report) { disk(r).Parent = false }}, []string{treeCheck}},
		{"a master without dma-coherent", []func(*Report){func(r *Report) { disk(r).Coherent = false }}, []string{treeCheck}},
		{"no masters", []func(*Report){func(r *Report) { disk(r).Master = false }}, []string{treeCheck}},
		{"a bridge with ats-supported", []func(*Report){onPCI, func(r *Report) { show(r, "ATS", 1); r.Description.Nodes[0].ATS = true }}, nil},
		{"a bridge without ats-supported", []func(*Report){onPCI, func(r *Report) { show(r, "ATS", 1) }}, []string{treeCheck}},
		{"a bridge with ats-supported, and no ATS", []func(*Report){onPCI, func(r *Report) { r.Description.Nodes[0].ATS = true }}, []string{treeCheck}},

		{"a reserved range", []func(*Report){func(r *Report) {
			r.Mode.Reserved, r.Description.Reserved = "0xb 0xc direct", []string{"0xb 0xc direct"}
		}}, nil},
		{"a reserved range that is not mapped", []func(*Report){func(r *Report) { r.Mode.Reserved = "0xb 0xc direct" }}, []string{reservedCheck}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			for _, edit := range tt.edits {
				edit(r)
			}
			r.Judge()
			assert.Equal(t, tt.fails, failed(r))
		})
	}
}

// The disk plain alone is a PCI function.
func TestMixedTransportsHaveOneDiskThatSendsMessages(t *testing.T) {
	r := good()
	r.Mode.PCI, r.Mode.Mixed = true, true
	r.Judge()
	assert.Contains(t, failed(r), "plain: its interrupts took the same stage as its data")
	assert.NotContains(t, failed(r), "pasid: its interrupts took the same stage as its data")
}

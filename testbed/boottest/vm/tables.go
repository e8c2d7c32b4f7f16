package vm

import (
	"slices"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm"
)

// Table describes a machine with SMMUs, and its ACPI tables.
type Table struct {
	Name   string
	About  string
	Layout Layout
	Stalls bool // the component of the endpoint rogue can stall
}

// values are values of ID register fields.
type values = map[smmuv3.IDField]uint32

// pri gives the SMMU a PRI queue, and the queue a GSIV.
var pri = values{smmuv3.ATS: 1, smmuv3.PRI: 1}

// with returns the table with one more ID register field.
func (t Table) with(f smmuv3.IDField, v uint32) Table {
	ids := values{f: v}
	for g, w := range t.Layout.IDs {
		if g != f {
			ids[g] = w
		}
	}
	t.Layout.IDs = ids
	return t
}

// Tables are the variants of the IORT and of the machine that it describes.
var Tables = []Table{
	Table{Name: "wired", About: "four GSIVs, no messages",
		Layout: Layout{PCI: true, Wiring: vmm.Wiring{CmdSync: true}, IDs: pri}}.with(smmuv3.MSI, 0),
	{Name: "wired-msi", About: "four GSIVs, and messages",
		Layout: Layout{PCI: true, Wiring: vmm.Wiring{CmdSync: true}, IDs: pri}},
	Table{Name: "no-sync", About: "no GSIV of CMD_SYNC, no messages",
		Layout: Layout{PCI: true}}.with(smmuv3.MSI, 0),
	{Name: "no-sync-msi", About: "no GSIV of CMD_SYNC, and messages",
		Layout: Layout{PCI: true}},
	{Name: "no-sync-pri", About: "a GSIV of the PRI queue and none of CMD_SYNC",
		Layout: Layout{PCI: true, IDs: pri}},
	{Name: "msi", About: "no GSIVs, messages alone",
		Layout: Layout{PCI: true, Wiring: vmm.Wiring{NoWired: true}, IDs: pri}},
	Table{Name: "no-its", About: "no ITS, four GSIVs",
		Layout: Layout{Wiring: vmm.Wiring{CmdSync: true, NoITS: true}, IDs: pri}}.with(smmuv3.MSI, 0),
	{Name: "no-ats", About: "a root complex without ATS",
		Layout: Layout{PCI: true, IDs: values{smmuv3.ATS: 0}}},
	{Name: "canwbs", About: "a root complex with CANWBS",
		Layout: Layout{PCI: true, Wiring: vmm.Wiring{CanWBS: true}}},
	{Name: "rmr", About: "a reserved range for all functions",
		Layout: Layout{PCI: true, Wiring: vmm.Wiring{RMR: true}}},
	{Name: "bases", About: "StreamIDs and DeviceIDs that are not requester IDs",
		Layout: Layout{PCI: true, Wiring: vmm.Wiring{StreamBase: 0x2000, DeviceBase: 0x3000, RMR: true}}},
	{Name: "two-smmus", About: "a root complex and a component behind one SMMU, a component behind another",
		Layout: Layout{PCI: true, Mixed: true, SMMUs: 2}},
	{Name: "three-smmus", About: "a component behind each of three SMMUs with all GSIVs",
		Layout: Layout{SMMUs: 3, Wiring: vmm.Wiring{CmdSync: true}, IDs: pri}},
	{Name: "components", About: "named components, with SubstreamIDs and with stalls", Stalls: true},
	{Name: "httu-0", About: "no hardware updates: the HTTU override is 0",
		Layout: Layout{PCI: true, IDs: values{smmuv3.HTTU: 0}}},
	{Name: "httu-1", About: "hardware updates of the access flag: the HTTU override is 1",
		Layout: Layout{IDs: values{smmuv3.HTTU: 1}}},
	{Name: "non-coherent", About: "an SMMU whose own accesses are not coherent: no COHACC override",
		Layout: Layout{PCI: true, IDs: values{smmuv3.COHACC: 0}}},
}

// TableNames returns the names of Tables.
func TableNames() (names []string) {
	for _, t := range Tables {
		names = append(names, t.Name)
	}
	return names
}

// by returns the job of a boot by a table. ok is false if there is no such table.
func (j Job) by(name string) (job Job, about string, ok bool) {
	i := slices.IndexFunc(Tables, func(t Table) bool { return t.Name == name })
	if i < 0 {
		return j, "", false
	}
	t := Tables[i]
	j.Layout, j.Stalls, j.Tables, j.Quick = t.Layout, t.Stalls, nil, true
	j.ACPI = true
	return j, t.About, true
}

package firmware

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// values returns the properties of a node by name. No two have the same.
func values(t *testing.T, props []Prop) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, p := range props {
		assert.NotContains(t, all, p.Name)
		assert.NotNil(t, p.Value, p.Name)
		all[p.Name] = p.Value
	}
	return all
}

// cells are the bytes of 32-bit cells.
func cells(values ...uint32) []byte {
	b := []byte{}
	for _, v := range values {
		b = append(b, byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	return b
}

func TestPropsAreAsInAFlattenedTree(t *testing.T) {
	assert.Equal(t, Prop{"f", []byte{}}, Flag("f"))
	assert.Equal(t, Prop{"c", []byte{0x12, 0x34, 0x56, 0x78, 0, 0, 0, 1}}, Cells("c", 0x1234_5678, 1))
	assert.Equal(t, Prop{"s", []byte("a\x00bc\x00")}, Strings("s", "a", "bc"))
	assert.Equal(t, Prop{"reg", []byte{0, 0, 0, 1, 0x09, 0x05, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0}}, Reg(0x1_0905_0000, 0x2_0000))
}

func TestSMMUNode(t *testing.T) {
	n, err := SMMUNode(SMMU{Base: 0x1_0905_0000, PHandle: 7, EventQ: 0x4a, PRIQ: 0x4b, CmdSync: 0x4c, GError: 0x4d})
	require.NoError(t, err)
	assert.Equal(t, "iommu@109050000", n.Name)
	assert.Equal(t, map[string][]byte{
		"compatible": []byte("arm,smmu-v3\x00"),
		"reg":        {0, 0, 0, 1, 0x09, 0x05, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0},
		"interrupts": {
			0, 0, 0, 0, 0, 0, 0, 0x4a, 0, 0, 0, 1,
			0, 0, 0, 0, 0, 0, 0, 0x4d, 0, 0, 0, 1,
			0, 0, 0, 0, 0, 0, 0, 0x4b, 0, 0, 0, 1,
			0, 0, 0, 0, 0, 0, 0, 0x4c, 0, 0, 0, 1,
		},
		"interrupt-names": []byte("eventq\x00gerror\x00priq\x00cmdq-sync\x00"),
		"dma-coherent":    {},
		"#iommu-cells":    {0, 0, 0, 1},
		"phandle":         {0, 0, 0, 7},
	}, values(t, n.Props))
}

func TestSMMUNodeProperties(t *testing.T) {
	base := SMMU{Base: 0x0905_0000, PHandle: 7, EventQ: 0x4a, PRIQ: 0x4b, CmdSync: 0x4c, GError: 0x4d}
	incoherent := smmuv3.IDRegs{IDR: [6]uint32{0: 1 << 1}}
	messages := smmuv3.IDRegs{IDR: [6]uint32{0: 1<<1 | 1<<4 | 1<<13}}
	for _, tt := range []struct {
		name string
		edit func(*SMMU)
		want map[string][]byte // nil for a property that is absent
	}{
		{"NoCmdSync", func(s *SMMU) { s.NoCmdSync = true }, map[string][]byte{
			"interrupts":      cells(0, 0x4a, 1, 0, 0x4d, 1, 0, 0x4b, 1),
			"interrupt-names": []byte("eventq\x00gerror\x00priq\x00"),
		}},
		{"NoPRIQ", func(s *SMMU) { s.NoPRIQ = true }, map[string][]byte{
			"interrupts":      cells(0, 0x4a, 1, 0, 0x4d, 1, 0, 0x4c, 1),
			"interrupt-names": []byte("eventq\x00gerror\x00cmdq-sync\x00"),
		}},
		{"NoWired", func(s *SMMU) { s.NoWired, s.MSI, s.InterruptParent = true, 4, 1 }, map[string][]byte{
			"interrupts": nil, "interrupt-names": nil, "interrupt-parent": nil, "msi-parent": cells(4, 0),
		}},
		{"NoWired, by its ID registers", func(s *SMMU) { s.NoWired, s.MSI, s.IDs = true, 4, messages }, map[string][]byte{
			"interrupts": nil, "msi-parent": cells(4, 0),
		}},
		{"MSI", func(s *SMMU) { s.MSI, s.DeviceID = 4, 0x1000 }, map[string][]byte{"msi-parent": cells(4, 0x1000)}},
		{"no MSI", func(s *SMMU) { s.DeviceID = 0x1000 }, map[string][]byte{"msi-parent": nil}},
		{"InterruptParent", func(s *SMMU) { s.InterruptParent = 1 }, map[string][]byte{"interrupt-parent": cells(1)}},
		{"no InterruptParent", func(*SMMU) {}, map[string][]byte{"interrupt-parent": nil}},
		{"COHACC 1", func(s *SMMU) { s.IDs = messages }, map[string][]byte{"dma-coherent": {}}},
		{"COHACC 0", func(s *SMMU) { s.IDs = incoherent }, map[string][]byte{"dma-coherent": nil}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := base
			tt.edit(&s)
			n, err := SMMUNode(s)
			require.NoError(t, err)
			got := values(t, n.Props)
			for name, want := range tt.want {
				assert.Equal(t, want, got[name], name)
			}
		})
	}
}

// FreeBSD's driver finds its interrupts by these names, and attaches to no SMMU without them.
func TestSMMUNodeWithAllWiresHasTheInterruptsThatFreeBSDNeeds(t *testing.T) {
	for _, tt := range []struct {
		noCmdSync bool
		want      bool
	}{{false, true}, {true, false}} {
		n, err := SMMUNode(SMMU{PHandle: 1, NoCmdSync: tt.noCmdSync})
		require.NoError(t, err)
		var names []string
		for _, p := range n.Props {
			if p.Name == "interrupt-names" {
				names = strings.Split(string(p.Value), "\x00")
			}
		}
		assert.Contains(t, names, "eventq")
		assert.Contains(t, names, "gerror")
		assert.Equal(t, tt.want, slices.Contains(names, "cmdq-sync"))
	}
}

func TestSMMUNodeRejects(t *testing.T) {
	for _, tt := range []struct {
		smmu SMMU
		says string
	}{
		{SMMU{Base: 0x0905_1000, PHandle: 7}, "Base 0x9051000: not a multiple of 64 KiB"},
		{SMMU{Base: 1<<64 - 1<<16, PHandle: 7}, "Base 0xffffffffffff0000"},
		{SMMU{}, "PHandle 0"},
		{SMMU{PHandle: 7, EventQ: 988}, "EventQ 988: SPIs are 0 to 987"},
		{SMMU{PHandle: 7, PRIQ: 988}, "PRIQ 988"},
		{SMMU{PHandle: 7, CmdSync: 988}, "CmdSync 988"},
		{SMMU{PHandle: 7, GError: 988}, "GError 988"},
		{SMMU{PHandle: 7, NoWired: true}, "NoWired"},
		{SMMU{PHandle: 7, NoWired: true, MSI: 4, IDs: smmuv3.IDRegs{IDR: [6]uint32{0: 2}}}, "NoWired: the SMMU sends no messages (IDR0.MSI is 0)"},
	} {
		_, err := SMMUNode(tt.smmu)
		assert.ErrorContains(t, err, "firmware: SMMUNode: "+tt.says)
	}
}

func TestMasterProperties(t *testing.T) {
	for _, tt := range []struct {
		name   string
		master Master
		want   map[string][]byte
	}{
		{
			"one stream", Master{SMMU: 7, StreamIDs: []smmuv3.StreamID{0x10}},
			map[string][]byte{"iommus": {0, 0, 0, 7, 0, 0, 0, 0x10}, "dma-coherent": {}},
		},
		{
			"NonCoherent", Master{SMMU: 7, StreamIDs: []smmuv3.StreamID{0x10}, NonCoherent: true},
			map[string][]byte{"iommus": {0, 0, 0, 7, 0, 0, 0, 0x10}},
		},
		{
			"two streams, substreams, stalls",
			Master{SMMU: 7, StreamIDs: []smmuv3.StreamID{0x10, 0xffff_ffff}, PASIDBits: 20, CanStall: true},
			map[string][]byte{
				"iommus":         {0, 0, 0, 7, 0, 0, 0, 0x10, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff},
				"pasid-num-bits": {0, 0, 0, 20},
				"dma-can-stall":  {},
				"dma-coherent":   {},
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			props, err := MasterProperties(tt.master)
			require.NoError(t, err)
			assert.Equal(t, tt.want, values(t, props))
		})
	}
}

func TestMasterPropertiesRejects(t *testing.T) {
	one := []smmuv3.StreamID{0x10}
	for _, tt := range []struct {
		master Master
		says   string
	}{
		{Master{StreamIDs: one}, "SMMU 0"},
		{Master{SMMU: 7}, "StreamIDs: none"},
		{Master{SMMU: 7, StreamIDs: []smmuv3.StreamID{1, 2, 1}}, "StreamIDs: 0x1 twice"},
		{Master{SMMU: 7, StreamIDs: one, PASIDBits: 21}, "PASIDBits 21"},
	} {
		_, err := MasterProperties(tt.master)
		assert.ErrorContains(t, err, "firmware: MasterProperties: "+tt.says)
	}
}

package firmware

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/go-vsmmu/vsmmuv3/internal/iorttest"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// draws returns a generator of one of some values, most often the first.
func draws[T any](values ...T) *rapid.Generator[T] {
	return rapid.OneOf(rapid.Just(values[0]), rapid.SampledFrom(values))
}

var (
	genSMMU = rapid.Custom(func(t *rapid.T) SMMU {
		spi := draws[uint32](74, 0, 987, 988, 1<<32-1)
		bit := rapid.Bool()
		return SMMU{
			Base:   draws[uint64](0x0905_0000, 0x0907_0000, 0x0a00_0000, 0x0905_1000, 0, 1<<64-1<<16).Draw(t, "Base"),
			IDs:    smmuv3.IDRegs{IDR: [6]uint32{0: draws[uint32](0, 1<<1, 1<<1|1<<13, ^uint32(0)).Draw(t, "IDR0")}},
			EventQ: spi.Draw(t, "EventQ"), PRIQ: spi.Draw(t, "PRIQ"), CmdSync: spi.Draw(t, "CmdSync"), GError: spi.Draw(t, "GError"),
			NoCmdSync: bit.Draw(t, "NoCmdSync"), NoPRIQ: bit.Draw(t, "NoPRIQ"), NoWired: bit.Draw(t, "NoWired"),
			DeviceID:   draws[uint32](0x9_0000, 0, 0x10, 1<<32-1).Draw(t, "DeviceID"),
			PHandle:    draws[PHandle](2, 0).Draw(t, "PHandle"),
			MSI:        draws[PHandle](0, 3).Draw(t, "MSI"),
			DeviceBase: draws[uint32](0, 0x1_0000, 0xffff_f000).Draw(t, "DeviceBase"),
		}
	})
	genIndex = draws(0, 1, NoSMMU, 2, -2)
	genSID   = draws[smmuv3.StreamID](0x10, 0, 0x1000, 0xffff, 0x1_0000, 0xffff_ffff)
	genRoot  = rapid.Custom(func(t *rapid.T) PCIRoot {
		return PCIRoot{
			Segment:     rapid.Uint32Range(0, 3).Draw(t, "Segment"),
			Requesters:  draws[uint32](0x100, 0, 1, 1<<16, 1<<16+1).Draw(t, "Requesters"),
			SMMU:        genIndex.Draw(t, "SMMU"),
			StreamBase:  genSID.Draw(t, "StreamBase"),
			AddressBits: draws[uint8](48, 0, 64, 65).Draw(t, "AddressBits"),
			CanWBS:      rapid.Bool().Draw(t, "CanWBS"), NonCoherent: rapid.Bool().Draw(t, "NonCoherent"),
		}
	})
	genComponent = rapid.Custom(func(t *rapid.T) Component {
		return Component{
			Path:        draws(`\_SB_.VR00`, `\_SB_.VR01`, `\DEV0`, "", `VR00`, `\VR0`, "\\_SB_\x00").Draw(t, "Path"),
			SMMU:        genIndex.Draw(t, "SMMU"),
			StreamIDs:   rapid.SliceOfN(genSID, 0, 3).Draw(t, "StreamIDs"),
			PASIDBits:   draws[uint32](0, 20, 21).Draw(t, "PASIDBits"),
			AddressBits: draws[uint8](48, 0, 64, 65).Draw(t, "AddressBits"),
		}
	})
	genRMR = rapid.Custom(func(t *rapid.T) RMR {
		return RMR{
			SMMU: genIndex.Draw(t, "SMMU"), First: genSID.Draw(t, "First"),
			Streams: draws[uint32](1, 0, 16, 1<<32-1).Draw(t, "Streams"),
			Base:    draws[uint64](0x0800_0000, 0, 4096, 1<<64-1<<16).Draw(t, "Base"),
			Size:    draws[uint64](1<<16, 0, 4096, 1<<20).Draw(t, "Size"),
		}
	})
)

// Table returns an error, or a table that is well formed and that maps every ID on both kernels.
func TestIORTOfAnyArgument(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		i := &IORT{
			ITS:        rapid.SliceOfN(rapid.Uint32Range(7, 7), 0, 1).Draw(t, "ITS"),
			SMMUs:      rapid.SliceOfN(genSMMU, 0, 2).Draw(t, "SMMUs"),
			Roots:      rapid.SliceOfN(genRoot, 0, 2).Draw(t, "Roots"),
			Components: rapid.SliceOfN(genComponent, 0, 2).Draw(t, "Components"),
			RMRs:       rapid.SliceOfN(genRMR, 0, 1).Draw(t, "RMRs"),
		}
		b, err := i.Table()
		if err != nil {
			require.ErrorIs(t, err, ErrIORT)
			return
		}
		r := iorttest.Read(t, b)
		for n, at := range r.Of(2) {
			root := &i.Roots[n]
			for _, read := range []iorttest.IndexReader{iorttest.Linux61, iorttest.Linux73} {
				for _, rid := range []uint32{0, root.Requesters / 2, root.Requesters - 1} {
					device := uint32(root.StreamBase) + rid
					if root.SMMU != NoSMMU {
						to, stream, err := r.Follow(read, at, rid, 4)
						require.NoError(t, err)
						assert.Equal(t, r.Of(4)[root.SMMU], to)
						assert.Equal(t, device, stream)
						device += i.SMMUs[root.SMMU].DeviceBase
					}
					if len(i.ITS) > 0 {
						_, got, err := r.Follow(read, at, rid, 0)
						require.NoError(t, err)
						assert.Equal(t, device, got)
					}
				}
			}
		}
	})
}

// The functions of device tree nodes return an error, or a node whose flattened name and properties
// are not empty.
func TestNodesOfAnyArgument(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, err := SMMUNode(genSMMU.Draw(t, "SMMU"))
		if err != nil {
			assert.ErrorContains(t, err, "firmware: SMMUNode: ")
			return
		}
		assert.Regexp(t, "^iommu@[0-9a-f]+$", n.Name)
		for _, p := range n.Props {
			assert.NotEmpty(t, p.Name)
			assert.NotNil(t, p.Value)
		}
	})
}

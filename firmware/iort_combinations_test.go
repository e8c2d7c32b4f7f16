package firmware

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/internal/iorttest"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// switches are the options of an IORT, each on or off.
type switches struct {
	its, msi, noWired, noCmdSync, noPRIQ, two, ats, canWBS, rmr bool
}

const allSwitches = 9

func switchesOf(bits int) switches {
	on := func(n int) bool { return bits>>n&1 != 0 }
	return switches{on(0), on(1), on(2), on(3), on(4), on(5), on(6), on(7), on(8)}
}

func (s switches) String() string {
	var on []string
	for name, v := range map[string]bool{
		"ITS": s.its, "MSI": s.msi, "NoWired": s.noWired, "NoCmdSync": s.noCmdSync, "NoPRIQ": s.noPRIQ,
		"two": s.two, "ATS": s.ats, "CanWBS": s.canWBS, "RMR": s.rmr,
	} {
		if v {
			on = append(on, name)
		}
	}
	return strings.Join(on, " ")
}

// table describes the switches, with two PCI segments: the second is behind the second SMMU, or
// behind none.
func (s switches) table() *IORT {
	ids := smmuv3.IDRegs{IDR: [6]uint32{0: 1<<1 | 1<<4 | 2<<6 | 1<<10 | 1<<16}} // S1P, COHACC, HTTU 2, ATS, PRI
	if s.msi {
		ids.IDR[0] |= 1 << 13
	}
	i := &IORT{
		SMMUs: []SMMU{{
			Base: 0x0905_0000, IDs: ids, EventQ: 74, PRIQ: 75, CmdSync: 76, GError: 77,
			NoWired: s.noWired, NoCmdSync: s.noCmdSync, NoPRIQ: s.noPRIQ, DeviceID: 0x9_0000,
		}},
		Roots: []PCIRoot{
			{Segment: 0, Requesters: 0x1_0000, SMMU: 0, ATS: s.ats, AddressBits: 48, CanWBS: s.canWBS},
			{Segment: 1, Requesters: 0x100, SMMU: NoSMMU, StreamBase: 0x4_0000, AddressBits: 40},
		},
	}
	if s.its {
		i.ITS = []uint32{7}
	}
	if s.two {
		second := i.SMMUs[0]
		second.Base, second.DeviceID, second.DeviceBase = 0x0907_0000, 0x9_0001, 0x2_0000
		second.EventQ, second.PRIQ, second.CmdSync, second.GError = 80, 81, 82, 83
		i.SMMUs = append(i.SMMUs, second)
		i.Roots[1].SMMU, i.Roots[1].StreamBase = 1, 0x2000
	}
	if s.rmr {
		i.RMRs = []RMR{{SMMU: len(i.SMMUs) - 1, First: 0x2008, Streams: 8, Base: 0x0800_0000, Size: 0x10_0000}}
	}
	return i
}

func TestIORTOfEveryCombination(t *testing.T) {
	for bits := range 1 << allSwitches {
		s := switchesOf(bits)
		t.Run(s.String(), func(t *testing.T) {
			b, err := s.table().Table()
			if s.noWired && (!s.its || !s.msi) {
				require.ErrorIs(t, err, ErrIORT)
				require.ErrorContains(t, err, "SMMUs[0]: NoWired")
				return
			}
			require.NoError(t, err)
			r := iorttest.Read(t, b)
			require.Len(t, r.Of(0), count(s.its))
			require.Len(t, r.Of(4), 1+count(s.two))
			require.Len(t, r.Of(2), 2)
			require.Len(t, r.Of(6), count(s.rmr))
			s.checkSMMUs(t, r)
			s.checkRoots(t, r)
			s.checkRMR(t, r)
		})
	}
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s switches) checkSMMUs(t *testing.T, r *iorttest.Reader) {
	for n, at := range r.Of(4) {
		assert.Equal(t, []uint64{0x0905_0000, 0x0907_0000}[n], r.U64(at+16), "base address")
		assert.EqualValues(t, 1|2<<1, r.U32(at+24)&7, "COHACC and HTTU overrides")
		// SPI 0 is INTID 32. An interrupt that does not exist is 0.
		want := [][4]uint32{{106, 107, 109, 108}, {112, 113, 115, 114}}[n]
		if s.noPRIQ || s.noWired {
			want[1] = 0
		}
		if s.noCmdSync || s.noWired {
			want[3] = 0
		}
		if s.noWired {
			want[0], want[2] = 0, 0
		}
		assert.Equal(t, want, r.GSIVs(at), "event, PRI, GERR and sync GSIV")
		assert.Equal(t, want[3] != 0, r.FreeBSDAttaches(at) == nil)

		allWired := want[0] != 0 && want[1] != 0 && want[2] != 0 && want[3] != 0
		deviceID := []uint32{0x9_0000, 0x9_0001}[n]

		id, ok, err := r.Own(iorttest.Linux73, at)
		require.NoError(t, err)
		if s.its && (s.msi || !allWired) {
			require.True(t, ok, "Linux 7.3 finds the DeviceID of the SMMU")
			assert.Equal(t, deviceID, id)
		} else {
			assert.False(t, ok, "Linux 7.3 finds no DeviceID of the SMMU")
		}

		id, ok, err = r.Own(iorttest.Linux61, at)
		switch {
		case !allWired && s.its:
			require.NoError(t, err)
			require.True(t, ok, "Linux 6.1 finds the DeviceID of the SMMU")
			assert.Equal(t, deviceID, id)
		case !allWired: // a line in the log, and no DeviceID
			assert.ErrorContains(t, err, "overflows")
			assert.False(t, ok)
		default: // Linux 6.1 uses the wires
			assert.NoError(t, err)
			assert.False(t, ok)
		}
	}
}

func (s switches) checkRoots(t *testing.T, r *iorttest.Reader) {
	type want struct {
		last               uint32 // requester
		smmu               int    // index, -1 for none
		stream, device     uint32 // of requester 0
		segment, bits, ats uint32
		flags              uint8
	}
	flags := uint8(3)
	if s.canWBS {
		flags = 7
	}
	wants := []want{
		{0xffff, 0, 0, 0, 0, 48, uint32(count(s.ats)), flags},
		{0xff, -1, 0, 0x4_0000, 1, 40, 0, 3},
	}
	if s.two {
		wants[1].smmu, wants[1].stream, wants[1].device = 1, 0x2000, 0x2_2000
	}
	for n, at := range r.Of(2) {
		w := wants[n]
		assert.EqualValues(t, 1, r.U32(at+16), "cache coherency")
		assert.Equal(t, w.flags, r.U8(at+23), "memory access flags")
		assert.Equal(t, w.ats, r.U32(at+24), "ATS attribute")
		assert.Equal(t, w.segment, r.U32(at+28), "PCI segment")
		assert.EqualValues(t, w.bits, r.U8(at+32), "memory address size limit")

		for _, rid := range []uint32{0, 1, 0x80, w.last - 1} {
			device, ok := r.FreeBSD(at, rid)
			require.Equal(t, s.its, ok, "FreeBSD, segment %d, requester %#x", w.segment, rid)
			if ok {
				assert.Equal(t, w.device+rid, device, "FreeBSD, segment %d, requester %#x", w.segment, rid)
			}
		}
		for version, read := range map[string]iorttest.IndexReader{"6.1": iorttest.Linux61, "7.3": iorttest.Linux73} {
			for _, rid := range []uint32{0, 1, 0x10, 0x80, w.last - 1, w.last, w.last + 1} {
				what := fmt.Sprintf("Linux %s, segment %d, requester %#x", version, w.segment, rid)
				smmu, stream, err := r.Follow(read, at, rid, 4)
				if w.smmu >= 0 && rid <= w.last {
					require.NoError(t, err, what)
					assert.Equal(t, r.Of(4)[w.smmu], smmu, what)
					assert.Equal(t, w.stream+rid, stream, what)
				} else {
					assert.Error(t, err, what)
				}
				its, device, err := r.Follow(read, at, rid, 0)
				if s.its && rid <= w.last {
					require.NoError(t, err, what)
					assert.EqualValues(t, 7, r.U32(its+20), what)
					assert.Equal(t, w.device+rid, device, what)
				} else {
					assert.Error(t, err, what)
				}
			}
		}
	}
}

func (s switches) checkRMR(t *testing.T, r *iorttest.Reader) {
	for _, at := range r.Of(6) {
		assert.Zero(t, r.U32(at+16), "not to be remapped")
		assert.EqualValues(t, 0x0800_0000, r.U64(at+28))
		assert.EqualValues(t, 0x10_0000, r.U64(at+36))
		require.Equal(t, 1, r.Mappings(at))
		m := r.Mapping(at, 0)
		assert.Equal(t, []uint32{0, 7, 0x2008, uint32(r.Of(4)[count(s.two)]), 0},
			[]uint32{r.U32(m), r.U32(m + 4), r.U32(m + 8), r.U32(m + 12), r.U32(m + 16)})
	}
}

// An SMMU with all four wires sends messages, too, if it has an ITS for them.
func TestIORTOfAnSMMUWithMSI(t *testing.T) {
	for _, smmu := range []SMMU{
		{MSI: 4, DeviceID: 0x9_0000},
		{IDs: smmuv3.IDRegs{IDR: [6]uint32{0: 1<<1 | 1<<13}}, DeviceID: 0x9_0000},
	} {
		b, err := (&IORT{ITS: []uint32{7}, SMMUs: []SMMU{smmu}}).Table()
		require.NoError(t, err)
		r := iorttest.Read(t, b)
		id, ok, err := r.Own(iorttest.Linux73, r.Of(4)[0])
		require.NoError(t, err)
		assert.True(t, ok)
		assert.EqualValues(t, 0x9_0000, id)
	}
}

func TestIORTOfAnSMMUWithoutPRIHasNoInterruptOfItsQueue(t *testing.T) {
	for idr0, want := range map[uint32]uint32{0: 107, 1 << 1: 0, 1<<1 | 1<<10 | 1<<16: 107} {
		b, err := (&IORT{SMMUs: []SMMU{{PRIQ: 75, IDs: smmuv3.IDRegs{IDR: [6]uint32{0: idr0}}}}}).Table()
		require.NoError(t, err)
		r := iorttest.Read(t, b)
		assert.Equal(t, want, r.GSIVs(r.Of(4)[0])[1], "IDR0 %#x", idr0)
	}
}

func TestIORTOfComponents(t *testing.T) {
	i := &IORT{
		ITS:   []uint32{7},
		SMMUs: []SMMU{{Base: 0x0905_0000, NoCmdSync: true, DeviceID: 0x9_0000, DeviceBase: 0x1_0000}},
		Components: []Component{
			{Path: `\_SB_.VR00`, StreamIDs: []smmuv3.StreamID{0x10}, AddressBits: 64},
			{Path: `\_SB_.PCI0.DEV1`, StreamIDs: []smmuv3.StreamID{0x20, 0x28}, PASIDBits: 20, CanStall: true, AddressBits: 40, NonCoherent: true},
			{Path: `\DEV2`, StreamIDs: []smmuv3.StreamID{0}, AddressBits: 32},
		},
	}
	b, err := i.Table()
	require.NoError(t, err)
	r := iorttest.Read(t, b)
	for n, want := range []struct {
		path             string
		flags, coherency uint32
		access, bits     uint8
		streams          []uint32
	}{
		{`\_SB_.VR00`, 0, 1, 3, 64, []uint32{0x10}},
		{`\_SB_.PCI0.DEV1`, 20<<1 | 1, 0, 0, 40, []uint32{0x20, 0x28}},
		{`\DEV2`, 0, 1, 3, 32, []uint32{0}},
	} {
		at := r.Of(1)[n]
		assert.Equal(t, want.path, r.Path(at))
		assert.Equal(t, want.flags, r.U32(at+16), "node flags")
		assert.Equal(t, want.coherency, r.U32(at+20), "cache coherency")
		assert.Equal(t, want.access, r.U8(at+27), "memory access flags")
		assert.Equal(t, want.bits, r.U8(at+28), "memory address size limit")
		require.Equal(t, len(want.streams), r.Mappings(at))
		for k, stream := range want.streams {
			m := r.Mapping(at, k)
			assert.EqualValues(t, 1, r.U32(m+16), "single mapping")
			assert.Equal(t, stream, r.U32(m+8))
			assert.Equal(t, r.Of(4)[0], int(r.U32(m+12)))
			for _, read := range []iorttest.IndexReader{iorttest.Linux61, iorttest.Linux73} {
				its, device, err := r.Follow(read, int(r.U32(m+12)), stream, 0)
				require.NoError(t, err)
				assert.Equal(t, r.Of(0)[0], its)
				assert.Equal(t, 0x1_0000+stream, device)
			}
		}
	}
}

func TestIORTOfANonCoherentRoot(t *testing.T) {
	b, err := (&IORT{Roots: []PCIRoot{{Requesters: 1, SMMU: NoSMMU, AddressBits: 48, NonCoherent: true}}}).Table()
	require.NoError(t, err)
	r := iorttest.Read(t, b)
	at := r.Of(2)[0]
	assert.Zero(t, r.U32(at+16), "cache coherency")
	assert.Zero(t, r.U8(at+23), "memory access flags")
}

func TestIORTOverridesSayWhatIDRegsSay(t *testing.T) {
	for _, tt := range []struct {
		idr0 uint32
		want uint32 // COHACC override, bit 0; HTTU override, bits 2:1
	}{
		{0, 1 | 2<<1}, // no ID registers: the defaults
		{1 << 1, 0},
		{1<<1 | 1<<6, 1 << 1},
		{1<<1 | 2<<6, 2 << 1},
		{1<<1 | 3<<6, 2 << 1}, // DEN 0049 has no value for the access flags of tables
		{1<<1 | 1<<4, 1},
		{1<<1 | 1<<4 | 1<<6, 1 | 1<<1},
		{1<<1 | 1<<4 | 2<<6, 1 | 2<<1},
	} {
		b, err := (&IORT{SMMUs: []SMMU{{IDs: smmuv3.IDRegs{IDR: [6]uint32{0: tt.idr0}}}}}).Table()
		require.NoError(t, err)
		r := iorttest.Read(t, b)
		assert.Equal(t, tt.want, r.U32(r.Of(4)[0]+24)&7, "IDR0 %#x", tt.idr0)
	}
}

package soft_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// FuzzTranslate lets a guest write any CD and any tables. Each access ends with an outcome that the
// architecture defines, and with at most one event for each transaction. A second access uses the
// caches and has the same outcome.
func FuzzTranslate(f *testing.F) {
	const attrs48 = 0x0001_6205_c000_0010
	f.Add(uint64(attrs48), uint64(0x10000), uint64(0), le(0x10003), uint64(0), byte(0))                             // a table that is its own next table
	f.Add(uint64(attrs48), uint64(0x10000), uint64(0), le(0x1_0000_0001_0003), uint64(0), byte(0))                  // a next table at bit 48: RES0
	f.Add(uint64(attrs48), uint64(0x10000), uint64(0), le(0x3_f003), uint64(0x1ff)<<39|0x1ff<<30, byte(0))          // the last descriptor of memory
	f.Add(uint64(attrs48), uint64(0x10000), uint64(0), le(0x4_0003), uint64(0), byte(0))                            // a next table just past memory
	f.Add(uint64(attrs48), uint64(0x3_f000), uint64(0), le(0), uint64(0xffff_ffff_ffff), byte(0))                   // the last address of TTB0
	f.Add(uint64(attrs48), uint64(0x10000), uint64(0), le(0), uint64(0x1_0000_0000_0000), byte(0))                  // the first one past it
	f.Add(uint64(0x0001_6205_8090_4000), uint64(0), uint64(0x10000), le(0x10003), ^uint64(0), byte(0))              // the last address of all
	f.Add(uint64(0x0001_6205_8090_4000), uint64(0), uint64(0x10000), le(0x10003), ^uint64(3), byte(1))              // and past it
	f.Add(uint64(0x0001_6205_c000_0030), uint64(0x10000), uint64(0), le(0xc43, 0x1c43), uint64(0xfff8), byte(0))    // small table, its last page
	f.Add(uint64(0x0001_6205_c000_0030), uint64(0x10000), uint64(0), le(0x3_fc43), uint64(0xffc), byte(1))          // a page at the end of memory
	f.Add(uint64(0x0001_6205_c000_006f), uint64(0x10000), uint64(0), le(0xfc43), uint64(0), byte(0))                // [15:12] of a 64 KiB page: bits [51:48]
	f.Add(uint64(0x0001_6205_c000_8030), uint64(0x10000), uint64(0), le(0x430c_0000_0000_0000), uint64(0), byte(0)) // big-endian
	f.Add(uint64(0x0001_0205_c000_0030), uint64(0x10000), uint64(0), le(0), uint64(0xff8), byte(1))                 // A = 0, R = 0: RAZ/WI
	f.Add(uint64(0x0001_6e05_c000_0030), uint64(0x10000), uint64(0), le(0x8_0000_0000_08c3), uint64(0), byte(3))    // HA and HD: writable-clean
	f.Add(uint64(1<<31), uint64(0), uint64(0), le(), uint64(0), byte(0))                                            // V and nothing else
	f.Add(^uint64(0), ^uint64(0), ^uint64(0), le(^uint64(0)), ^uint64(0), byte(0xff))                               // every bit

	f.Fuzz(func(t *testing.T, cd0, cd1, cd2 uint64, tables []byte, iova uint64, how byte) {
		g := newFuzzed(t, soft.DefaultIDs(), tables, cd0, cd1, cd2)
		require.NoError(t, g.stream.Bind(oneCD))
		// The first access may update flags in the tables. The second has nothing to update.
		g.access(iova, how, cd0&(1<<43) == 0, true)
	})
}

// FuzzStage2 lets a guest hypervisor write any STE with a stage 2, any CD, and any tables for both
// stages. The stage is accepted if and only if the STE is legal. An access ends as in
// FuzzTranslate.
func FuzzStage2(f *testing.F) {
	const (
		level1 = 0x040d_0059_0000_0000 // 39 bits, 4 KiB
		level3 = 0x040d_00e7_0000_0000 // 25 bits, 16 tables at level 3
		cd     = 0x0001_6205_c000_0030 // 16 bits, level 3
	)
	f.Add(uint64(0), uint64(level1), uint64(0x10000), uint64(cd), le(0x10003), uint64(0), byte(0))                     // a table that is its own next table
	f.Add(uint64(0), uint64(level1), uint64(0x10000), uint64(cd), le(0x7fd), uint64(0x3_fffc), byte(0))                // a block: the last word of memory
	f.Add(uint64(0), uint64(level1), uint64(0x10000), uint64(cd), le(0x7fd), uint64(0x7f_ffff_ffff), byte(1))          // the last address of stage 2, and past it
	f.Add(uint64(0), uint64(level3), uint64(0x10000), uint64(cd), le(0x7ff, 0x17ff), uint64(0x1ff_fff8), byte(0))      // the last of 16 tables
	f.Add(uint64(0), uint64(level3), uint64(0x3_0000), uint64(cd), le(0x7ff), uint64(0), byte(16))                     // nested: one page is CD and tables
	f.Add(uint64(0), uint64(level1), uint64(0x10000), uint64(cd), le(0x7fd), uint64(0), byte(16))                      // nested, all of it where it is
	f.Add(uint64(0), uint64(level1), uint64(0x10000), uint64(cd|1<<43), le(0x3fd), uint64(0), byte(16|2))              // flags of both
	f.Add(uint64(0), uint64(level1|3<<55), uint64(0x10000), uint64(cd), le(0x8_0000_0000_037d), uint64(0), byte(2))    // S2HA, S2HD: writable-clean
	f.Add(uint64(1<<25), uint64(level1|1<<54), uint64(0x10000), uint64(cd), le(0x7ed), uint64(0), byte(16))            // S2FWB, S2PTW: Device memory
	f.Add(uint64(0), uint64(level1|1<<52), uint64(0x10000), uint64(cd), le(0xfd07_0000_0000_0000), uint64(0), byte(0)) // big-endian
	f.Add(uint64(0), uint64(0x040d_0090_0000_0000), uint64(0x10000), uint64(cd), le(0x10003), ^uint64(0), byte(0))     // 48 bits; an address beyond all
	f.Add(^uint64(0), ^uint64(0), ^uint64(0), ^uint64(0), le(^uint64(0)), ^uint64(0), byte(0xff))                      // every bit

	f.Fuzz(func(t *testing.T, dw1, dw2, dw3, cd0 uint64, tables []byte, iova uint64, how byte) {
		ids := soft.Stage2IDs()
		ids.Set(smmuv3.VMID16, 0) // New is faster for a host with VMIDs of 8 bits
		f := newFuzzed(t, ids, tables, cd0, 0x10000)
		ste := smmuv3.STE{1 | uint64(smmuv3.ConfigS2)<<1, dw1 & (1 << 25), dw2, dw3}
		g := bridge.GuestStage{Disposition: bridge.TranslateS2, S2VMID: ste.S2VMID()}
		if how&16 != 0 {
			ste[0] = cdAt | 1 | uint64(smmuv3.ConfigNested)<<1
			g.Disposition, g.S1ContextPtr = bridge.TranslateNested, cdAt
		}
		g.S2 = ste.Stage2().Effective(&ids, how&16 != 0)
		err := f.stream.Bind(g)
		if ste.Illegal(&ids) != nil {
			require.ErrorIs(t, err, bridge.ErrRejected)
			return
		}
		require.NoError(t, err)

		// Tables that serve both stages may translate differently after an update of flags.
		unflagged := cd0&(1<<43) == 0 && !g.S2.HA
		f.access(iova, how, unflagged, unflagged)
	})
}

// fuzzed is an endpoint with 256 KiB of memory, of which the last three quarters are tables.
type fuzzed struct {
	t      *testing.T
	ram    []byte
	ep     *soft.Endpoint
	stream bridge.Stream
	events []smmuv3.Event
}

// newFuzzed fills memory with copies of the tables, and places the CD in the rest.
func newFuzzed(t *testing.T, ids smmuv3.IDRegs, tables []byte, cd ...uint64) *fuzzed {
	f := &fuzzed{t: t, ram: make([]byte, 0x4_0000), ep: soft.NewEndpoint()}
	copy(f.ram[cdAt:], le(cd...))
	for i := 0x1_0000; len(tables) > 0 && i < len(f.ram); i += len(tables) {
		copy(f.ram[i:], tables)
	}
	var mem guestmem.Slots
	require.NoError(t, mem.Add(guestmem.Slot{GPA: 0, Mem: f.ram}))
	h, err := soft.New(soft.Config{Memory: &mem, TLBEntries: 8, IDs: ids})
	require.NoError(t, err)
	h.Events(func(e smmuv3.Event) { f.events = append(f.events, e) })
	f.stream, err = h.Attach(sid, f.ep)
	require.NoError(t, err)
	return f
}

// access makes an access and, if it is a read, another from the caches. With same, both accesses
// have the same outcome. With still, the second access does not change memory. Bits of how: more
// than a page, a write, privileged, an instruction.
func (f *fuzzed) access(iova uint64, how byte, same, still bool) {
	p := f.ep.With(soft.Attrs{Privileged: how&4 != 0, Instruction: how&8 != 0})
	n := 8
	if how&1 != 0 {
		n = 0x3000 // a few pages, or the end of one and the beginning of the next
	}
	if how&2 != 0 {
		outcome(f.t, p.WriteAt(make([]byte, n), iova), f.events)
		return
	}
	first, second := make([]byte, n), make([]byte, n)
	err1 := p.ReadAt(first, iova)
	outcome(f.t, err1, f.events)
	before := bytes.Clone(f.ram)
	had := len(f.events)
	err2 := p.ReadAt(second, iova)
	if same {
		assert.Equal(f.t, err1, err2)
		assert.Equal(f.t, first, second)
		assert.Equal(f.t, f.events[:had], f.events[had:])
	}
	if still {
		assert.Equal(f.t, before, f.ram)
	}
}

func le(words ...uint64) []byte {
	var b []byte
	for _, w := range words {
		b = binary.LittleEndian.AppendUint64(b, w)
	}
	return b
}

// outcome checks the outcome of an access.
func outcome(t *testing.T, err error, events []smmuv3.Event) {
	for _, e := range events {
		switch e.Type() {
		case smmuv3.CBadCD:
			assert.Equal(t, smmuv3.NewEvent(smmuv3.CBadCD, sid), e)
		case smmuv3.FCDFetch:
			assert.Equal(t, smmuv3.NewEvent(smmuv3.FCDFetch, sid), smmuv3.Event{e[0]})
		case smmuv3.FWalkEABT, smmuv3.FTranslation, smmuv3.FAddrSize, smmuv3.FAccess, smmuv3.FPermission:
			assert.Equal(t, sid, e.StreamID())
			assert.False(t, e.SSV() || e.Stall())
			assert.True(t, e.S2() || e.Class() != smmuv3.ClassCD, "only a fault of stage 2 has class CD")
		default:
			assert.Fail(t, "not an event of this stream", "%v", e)
		}
	}
	var f *soft.Fault
	switch {
	case err == nil:
		// An access that succeeds records only faults that the CD terminates as RAZ/WI.
		for _, e := range events {
			assert.NotContains(t, []smmuv3.EventType{smmuv3.CBadCD, smmuv3.FWalkEABT}, e.Type())
		}
	case !errors.As(err, &f):
		assert.Fail(t, "not a *Fault", "%v", err)
	case errors.Is(err, guestmem.ErrUnmapped):
		assert.Zero(t, f.Event)
	default:
		assert.ErrorIs(t, err, soft.ErrFault)
		assert.NotErrorIs(t, err, bridge.ErrClosed)
		assert.NotZero(t, f.Event)
		if f.Recorded && assert.NotEmpty(t, events) {
			assert.Equal(t, f.Event, events[len(events)-1])
		}
	}
}

package smmuv3

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The bits of §7.3, checked against the EVTQ_* masks of Linux.
func TestEventLayout(t *testing.T) {
	testLayout(t, []field[Event]{
		{"type", 0, 0x0000_0000_0000_00ff, false, func(e *Event) uint64 { return uint64(e.Type()) }, func(e *Event, v uint64) { e.SetType(EventType(v)) }},
		{"SSV", 0, 0x0000_0000_0000_0800, false, func(e *Event) uint64 { return b2u(e.SSV()) }, nil},
		{"SubstreamID", 0, 0x0000_0000_ffff_f000, false, func(e *Event) uint64 { return uint64(e.SubstreamID()) }, func(e *Event, v uint64) { e.SetSubstreamOnly(SubstreamID(v)) }},
		{"StreamID", 0, 0xffff_ffff_0000_0000, false, func(e *Event) uint64 { return uint64(e.StreamID()) }, func(e *Event, v uint64) { e.SetStreamID(StreamID(v)) }},
		{"STAG", 1, 0x0000_0000_0000_ffff, false, func(e *Event) uint64 { return uint64(e.STAG()) }, nil},
		{"Reason", 1, 0x0000_0000_0000_ffff, false, func(e *Event) uint64 { return uint64(e.Reason()) }, nil},
		{"Stall", 1, 0x0000_0000_8000_0000, false, func(e *Event) uint64 { return b2u(e.Stall()) }, nil},
		{"PnU", 1, 0x0000_0002_0000_0000, false, func(e *Event) uint64 { return b2u(e.PnU()) }, func(e *Event, v uint64) { e.SetPnU(v != 0) }},
		{"InD", 1, 0x0000_0004_0000_0000, false, func(e *Event) uint64 { return b2u(e.InD()) }, func(e *Event, v uint64) { e.SetInD(v != 0) }},
		{"RnW", 1, 0x0000_0008_0000_0000, false, func(e *Event) uint64 { return b2u(e.RnW()) }, func(e *Event, v uint64) { e.SetRnW(v != 0) }},
		{"S2", 1, 0x0000_0080_0000_0000, false, func(e *Event) uint64 { return b2u(e.S2()) }, func(e *Event, v uint64) { e.SetS2(v != 0) }},
		{"CLASS", 1, 0x0000_0300_0000_0000, false, func(e *Event) uint64 { return uint64(e.Class()) }, func(e *Event, v uint64) { e.SetClass(Class(v)) }},
		{"TTRnW", 1, 0x0000_1000_0000_0000, false, func(e *Event) uint64 { return b2u(e.TTRnW()) }, func(e *Event, v uint64) { e.SetTTRnW(v != 0) }},
		{"InputAddr", 2, 0xffff_ffff_ffff_ffff, true, func(e *Event) uint64 { return e.InputAddr() }, func(e *Event, v uint64) { e.SetInputAddr(v) }},
	})
}

// IPA is [247:204] (§7.3.13; EVTQ_3_IPA of Linux has address bits [51:12]).
func TestEventIPA(t *testing.T) {
	e := Event{3: ^uint64(0)}
	assert.Equal(t, uint64(0x00ff_ffff_ffff_f000), e.IPA())
	e.SetIPA(0x1234_5678)
	assert.Equal(t, uint64(0x1234_5000), e[3])
}

// FetchAddr is [247:195], and the rest of the double-word is RES0 (§7.3.4).
func TestEventFetchAddr(t *testing.T) {
	e := Event{3: ^uint64(0)}
	assert.Equal(t, uint64(0x00ff_ffff_ffff_fff8), e.FetchAddr())
	e.SetFetchAddr(^uint64(0))
	assert.Equal(t, Event{3: 0x00ff_ffff_ffff_fff8}, e)
}

func TestEventSubstreamAndStall(t *testing.T) {
	e := NewEvent(FTranslation, 0xdead_beef)
	e.SetSubstream(0xf_ffff)
	assert.Equal(t, Event{0xdead_beef_ffff_f810}, e)

	// C_BAD_SUBSTREAMID has no SSV: the bit is RES0 (§7.3.9).
	e = NewEvent(CBadSubstreamID, 1)
	e.SetSubstreamOnly(7)
	assert.Equal(t, Event{0x0000_0001_0000_7008}, e)

	e = NewEvent(FTranslation, 1)
	e.SetStall(0x1234)
	assert.Equal(t, Event{0x0000_0001_0000_0010, 0x8000_1234}, e)
	assert.True(t, e.Stall())
	assert.Equal(t, uint16(0x1234), e.STAG())
}

// A stage-1 translation fault of a read, as Linux logs it.
func TestEventInMemory(t *testing.T) {
	p := [EventSize]byte{
		0x10, 0, 0, 0, 0x08, 0, 0, 0,
		0, 0, 0, 0, 0x08, 0x02, 0, 0,
		0x00, 0xf0, 0xed, 0xfe, 0xff, 0xff, 0, 0,
	}
	e := LoadEvent(&p)
	assert.Equal(t, Event{0x0000_0008_0000_0010, 0x0000_0208_0000_0000, 0x0000_ffff_feed_f000, 0}, e)
	assert.Equal(t, FTranslation, e.Type())
	assert.Equal(t, StreamID(8), e.StreamID())
	assert.Equal(t, ClassIN, e.Class())
	assert.True(t, e.RnW())
	assert.False(t, e.S2())
	assert.Equal(t, "F_TRANSLATION stream 0x8 read at 0xfffffeedf000", e.String())

	var back [EventSize]byte
	e.Put(&back)
	assert.Equal(t, p, back)
}

// The numbers and names of §7.3.
func TestEventTypes(t *testing.T) {
	want := map[EventType]string{
		0x01: "F_UUT", 0x02: "C_BAD_STREAMID", 0x03: "F_STE_FETCH", 0x04: "C_BAD_STE",
		0x05: "F_BAD_ATS_TREQ", 0x06: "F_STREAM_DISABLED", 0x07: "F_TRANSL_FORBIDDEN",
		0x08: "C_BAD_SUBSTREAMID", 0x09: "F_CD_FETCH", 0x0a: "C_BAD_CD", 0x0b: "F_WALK_EABT",
		0x10: "F_TRANSLATION", 0x11: "F_ADDR_SIZE", 0x12: "F_ACCESS", 0x13: "F_PERMISSION",
		0x20: "F_TLB_CONFLICT", 0x21: "F_CFG_CONFLICT", 0x24: "E_PAGE_REQUEST", 0x25: "F_VMS_FETCH",
	}
	for typ := range 256 {
		name, ok := want[EventType(typ)]
		if !ok {
			name = fmt.Sprintf("event %#02x", typ)
		}
		assert.Equal(t, name, EventType(typ).String())
	}
	assert.Equal(t, []Class{0b00, 0b01, 0b10}, []Class{ClassCD, ClassTT, ClassIN})
}

func TestEventString(t *testing.T) {
	e := NewEvent(CBadSubstreamID, 3)
	e.SetSubstreamOnly(9)
	assert.Equal(t, "C_BAD_SUBSTREAMID stream 0x3 substream 0x9", e.String())
	e = NewEvent(FSTEFetch, 3)
	e.SetFetchAddr(0x4000_0040)
	assert.Equal(t, "F_STE_FETCH stream 0x3 fetch at 0x40000040", e.String())
	e = NewEvent(FPermission, 3)
	e.SetSubstream(1)
	e.SetInputAddr(0x1000)
	assert.Equal(t, "F_PERMISSION stream 0x3 substream 0x1 write at 0x1000", e.String())
	assert.Equal(t, "F_TRANSLATION stream 0x3 write at 0x1000, IPA 0x5000", Event{0x3_0000_0010, 1 << 39, 0x1000, 0x5000}.String(), "of stage 2")
}

package smmuv3

import "fmt"

// EventType is the number of an event record (§7.3).
type EventType uint8

const (
	FUUT             EventType = 0x01
	CBadStreamID     EventType = 0x02
	FSTEFetch        EventType = 0x03
	CBadSTE          EventType = 0x04
	FBadATSTReq      EventType = 0x05
	FStreamDisabled  EventType = 0x06
	FTranslForbidden EventType = 0x07
	CBadSubstreamID  EventType = 0x08
	FCDFetch         EventType = 0x09
	CBadCD           EventType = 0x0a
	FWalkEABT        EventType = 0x0b
	FTranslation     EventType = 0x10
	FAddrSize        EventType = 0x11
	FAccess          EventType = 0x12
	FPermission      EventType = 0x13
	FTLBConflict     EventType = 0x20
	FCfgConflict     EventType = 0x21
	EPageRequest     EventType = 0x24
	FVMSFetch        EventType = 0x25
)

var eventNames = map[EventType]string{
	FUUT: "F_UUT", CBadStreamID: "C_BAD_STREAMID", FSTEFetch: "F_STE_FETCH", CBadSTE: "C_BAD_STE",
	FBadATSTReq: "F_BAD_ATS_TREQ", FStreamDisabled: "F_STREAM_DISABLED",
	FTranslForbidden: "F_TRANSL_FORBIDDEN", CBadSubstreamID: "C_BAD_SUBSTREAMID",
	FCDFetch: "F_CD_FETCH", CBadCD: "C_BAD_CD", FWalkEABT: "F_WALK_EABT",
	FTranslation: "F_TRANSLATION", FAddrSize: "F_ADDR_SIZE", FAccess: "F_ACCESS",
	FPermission: "F_PERMISSION", FTLBConflict: "F_TLB_CONFLICT", FCfgConflict: "F_CFG_CONFLICT",
	EPageRequest: "E_PAGE_REQUEST", FVMSFetch: "F_VMS_FETCH",
}

// String is the specification's name.
func (t EventType) String() string {
	if n, ok := eventNames[t]; ok {
		return n
	}
	return fmt.Sprintf("event %#02x", uint8(t))
}

// Event is a record of the event queue (§7.3): four double-words, of which
// every type uses a part.
//
//	dw0  type [7:0]  SSV [11]  SubstreamID [31:12]  StreamID [63:32]
//	dw1  STAG or Reason [15:0], for F_UUT Reason [31:16]  Stall [31]  PnU [33]  InD [34]  RnW [35]
//	     NSIPA [38]  S2 [39]  CLASS [41:40]  TTRnW [44]
//	dw2  InputAddr
//	dw3  IPA [55:12] or FetchAddr [55:3]
type Event [4]uint64

// NewEvent is a record with a type, a StreamID and nothing else.
func NewEvent(t EventType, sid StreamID) Event {
	return Event{uint64(t) | uint64(sid)<<32}
}

// LoadEvent reads a record from its 32 bytes.
func LoadEvent(p *[EventSize]byte) (e Event) {
	loadWords(e[:], p[:])
	return e
}

// Put writes the record as it lies in memory.
func (e Event) Put(p *[EventSize]byte) { putWords(p[:], e[:]) }

// Class is CLASS: what the access was for that met the fault.
type Class uint8

const (
	ClassCD Class = 0b00 // fetching a Context Descriptor
	ClassTT Class = 0b01 // walking a translation table
	ClassIN Class = 0b10 // the input address itself
)

func (e Event) Type() EventType          { return EventType(e[0]) }
func (e Event) SSV() bool                { return bit(e[0], 11) }
func (e Event) SubstreamID() SubstreamID { return SubstreamID(bits(e[0], 12, 20)) }
func (e Event) StreamID() StreamID       { return StreamID(e[0] >> 32) }
func (e Event) STAG() uint16             { return uint16(e[1]) }
func (e Event) Stall() bool              { return bit(e[1], 31) }
func (e Event) PnU() bool                { return bit(e[1], 33) }
func (e Event) InD() bool                { return bit(e[1], 34) }
func (e Event) RnW() bool                { return bit(e[1], 35) }
func (e Event) S2() bool                 { return bit(e[1], 39) }
func (e Event) Class() Class             { return Class(bits(e[1], 40, 2)) }
func (e Event) TTRnW() bool              { return bit(e[1], 44) }
func (e Event) InputAddr() uint64        { return e[2] }
func (e Event) FetchAddr() uint64        { return e[3] & BaseAddrMask &^ 7 }
func (e Event) IPA() uint64              { return e[3] & BaseAddrMask &^ 0xfff }

func (e *Event) SetType(t EventType)    { e[0] = setBits(e[0], 0, 8, uint64(t)) }
func (e *Event) SetStreamID(s StreamID) { e[0] = setBits(e[0], 32, 32, uint64(s)) }
func (e *Event) SetStall(stag uint16)   { e[1] = setBits(e[1], 0, 16, uint64(stag)) | 1<<31 }
func (e *Event) SetPnU(v bool)          { e[1] = setBit(e[1], 33, v) }
func (e *Event) SetInD(v bool)          { e[1] = setBit(e[1], 34, v) }
func (e *Event) SetRnW(v bool)          { e[1] = setBit(e[1], 35, v) }
func (e *Event) SetS2(v bool)           { e[1] = setBit(e[1], 39, v) }
func (e *Event) SetClass(c Class)       { e[1] = setBits(e[1], 40, 2, uint64(c)) }
func (e *Event) SetTTRnW(v bool)        { e[1] = setBit(e[1], 44, v) }
func (e *Event) SetInputAddr(a uint64)  { e[2] = a }
func (e *Event) SetFetchAddr(a uint64)  { e[3] = a & BaseAddrMask &^ 7 }
func (e *Event) SetIPA(a uint64)        { e[3] = a & BaseAddrMask &^ 0xfff }

// SetSubstream gives the record a valid SubstreamID: SSV is set.
func (e *Event) SetSubstream(s SubstreamID) {
	e[0] = setBits(e[0], 12, 20, uint64(s)) | 1<<11
}

// SetSubstreamOnly sets the SubstreamID of a record that has no SSV bit, as
// C_BAD_SUBSTREAMID (§7.3.9).
func (e *Event) SetSubstreamOnly(s SubstreamID) {
	e[0] = setBits(e[0], 12, 20, uint64(s))
}

// String names the event and who met it where.
func (e Event) String() string {
	s := fmt.Sprintf("%v stream %v", e.Type(), e.StreamID())
	if e.SSV() || e.Type() == CBadSubstreamID {
		s += fmt.Sprintf(" substream %#x", uint32(e.SubstreamID()))
	}
	switch e.Type() {
	case FTranslation, FAddrSize, FAccess, FPermission, FWalkEABT:
		dir := "write"
		if e.RnW() {
			dir = "read"
		}
		s += fmt.Sprintf(" %s at %#x", dir, e.InputAddr())
		if e.S2() && e.Type() != FWalkEABT {
			s += fmt.Sprintf(", IPA %#x", e.IPA())
		}
	case FSTEFetch, FCDFetch:
		s += fmt.Sprintf(" fetch at %#x", e.FetchAddr())
	}
	return s
}

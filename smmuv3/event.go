package smmuv3

import "fmt"

// EventType identifies the kind of an event record (§7.3).
type EventType uint8

// The types of event records. Their names are the specification's.
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

// Event is a record of the event queue (§7.3). The type determines its fields:
//
//	 63       56 55                        12 11        3 2  0
//	+-----------+----------------------------+-----------+----+
//	|           |         IPA[55:12]         |           |    |  dw3: translation faults
//	|           |              FetchAddr[55:3]           |    |       F_*_FETCH, F_WALK_EABT
//	+-----------+----------------------------+-----------+----+
//	|                        InputAddr                        |  dw2
//	+---------------------------------------------------------+
//	 63    45 44    41 40 39 38 35  34  33   31    16 15     0
//	+--------+-----+-----+--+--+---+---+---+-+-----+----------+
//	|        |TTRnW|CLASS|S2|NS|RnW|InD|PnU| |Stall|   STAG   |  dw1: translation faults
//	|        |     |CLASS|S2|  |RnW|InD|PnU| |     |  Reason  |       F_WALK_EABT
//	+--------+-----+-----+--+--+---+---+---+-+-----+----------+
//	 63                   32 31          12 11  10  8 7      0
//	+-----------------------+--------------+---+-----+--------+
//	|       StreamID        | SubstreamID  |SSV|     |  type  |  dw0
//	+-----------------------+--------------+---+-----+--------+
type Event [4]uint64

// EventSize is the size of an event record in bytes.
const EventSize = 32

// The places of the fields.
const (
	evtType        = 0 + 8*wide
	evtSSV         = 11 + wide
	evtSubstreamID = 12 + 20*wide
	evtStreamID    = 32 + 32*wide

	evtSTAG      = dw1 + 0 + 16*wide
	evtReason    = dw1 + 0 + 16*wide
	evtUUTReason = dw1 + 16 + 16*wide
	evtGPCF      = dw1 + 16 + wide
	evtStall     = dw1 + 31 + wide
	evtPnU       = dw1 + 33 + wide
	evtInD       = dw1 + 34 + wide
	evtRnW       = dw1 + 35 + wide
	evtNSIPA     = dw1 + 38 + wide
	evtS2        = dw1 + 39 + wide
	evtCLASS     = dw1 + 40 + 2*wide
	evtTTRnW     = dw1 + 44 + wide

	evtInputAddr = dw2 + 0 + 64*wide
	evtIPA       = dw3 + 12 + 44*wide + address
	evtFetchAddr = dw3 + 3 + 53*wide + address
)

// LoadEvent reads a record from its memory format.
func LoadEvent(p *[EventSize]byte) (e Event) {
	loadWords(e[:], p[:])
	return e
}

// Put writes the record in its memory format.
func (e Event) Put(p *[EventSize]byte) { putWords(p[:], e[:]) }

func (e *Event) get(p place) uint64 { return p.of(e[p.dw()&3]) }

func (e *Event) set(p place, v uint64) {
	w := &e[p.dw()&3]
	*w = p.in(*w, v)
}

// Class is CLASS: the access that faulted.
type Class uint8

// Values of CLASS.
const (
	ClassCD Class = 0b00 // the fetch of a Context Descriptor
	ClassTT Class = 0b01 // a walk of translation tables
	ClassIN Class = 0b10 // the transaction itself
)

// String describes the access that faulted.
func (c Class) String() string {
	return [4]string{"a Context Descriptor fetch", "a translation table walk", "the input address", "reserved"}[c&3]
}

// Type returns the record's type.
func (e Event) Type() EventType { return EventType(e[0]) }

// SSV reports whether SubstreamID is valid. C_BAD_SUBSTREAMID has no SSV.
func (e Event) SSV() bool { return e.get(evtSSV) != 0 }

// SubstreamID returns the transaction's SubstreamID.
func (e Event) SubstreamID() SubstreamID { return SubstreamID(e.get(evtSubstreamID)) }

// StreamID returns the transaction's StreamID.
func (e Event) StreamID() StreamID { return StreamID(e.get(evtStreamID)) }

// STAG returns the token of a stalled transaction.
func (e Event) STAG() uint16 { return uint16(e.get(evtSTAG)) }

// Reason returns the IMPLEMENTATION DEFINED cause of a failed fetch.
func (e Event) Reason() uint16 { return uint16(e.get(evtReason)) }

// Stall reports whether the transaction stalls until a RESUME.
func (e Event) Stall() bool { return e.get(evtStall) != 0 }

// PnU reports whether the transaction is privileged.
func (e Event) PnU() bool { return e.get(evtPnU) != 0 }

// InD reports whether the transaction is an instruction fetch.
func (e Event) InD() bool { return e.get(evtInD) != 0 }

// RnW reports whether the transaction is a read.
func (e Event) RnW() bool { return e.get(evtRnW) != 0 }

// S2 reports whether stage 2 faulted.
func (e Event) S2() bool { return e.get(evtS2) != 0 }

// Class returns the access that faulted.
func (e Event) Class() Class { return Class(e.get(evtCLASS)) }

// TTRnW reports whether a table walk was reading when stage 2 faulted.
func (e Event) TTRnW() bool { return e.get(evtTTRnW) != 0 }

// InputAddr returns the transaction's address.
func (e Event) InputAddr() uint64 { return e.get(evtInputAddr) }

// FetchAddr returns the address of a failed fetch.
func (e Event) FetchAddr() uint64 { return e.get(evtFetchAddr) }

// IPA returns the address that stage 2 could not translate.
func (e Event) IPA() uint64 { return e.get(evtIPA) }

// SetType sets the record's type.
func (e *Event) SetType(t EventType) { e.set(evtType, uint64(t)) }

// SetStreamID sets the transaction's StreamID.
func (e *Event) SetStreamID(s StreamID) { e.set(evtStreamID, uint64(s)) }

// SetStall marks the record as that of a stalled transaction.
func (e *Event) SetStall(stag uint16) {
	e.set(evtSTAG, uint64(stag))
	e.set(evtStall, 1)
}

// SetPnU sets whether the transaction is privileged.
func (e *Event) SetPnU(v bool) { e.set(evtPnU, b2u(v)) }

// SetInD sets whether the transaction is an instruction fetch.
func (e *Event) SetInD(v bool) { e.set(evtInD, b2u(v)) }

// SetRnW sets whether the transaction is a read.
func (e *Event) SetRnW(v bool) { e.set(evtRnW, b2u(v)) }

// SetS2 sets whether stage 2 faulted.
func (e *Event) SetS2(v bool) { e.set(evtS2, b2u(v)) }

// SetClass sets the access that faulted.
func (e *Event) SetClass(c Class) { e.set(evtCLASS, uint64(c)) }

// SetTTRnW sets whether a table walk was reading when stage 2 faulted.
func (e *Event) SetTTRnW(v bool) { e.set(evtTTRnW, b2u(v)) }

// SetInputAddr sets the transaction's address.
func (e *Event) SetInputAddr(a uint64) { e.set(evtInputAddr, a) }

// SetFetchAddr sets the address of a failed fetch, and clears the rest of its double-word.
func (e *Event) SetFetchAddr(a uint64) { e[3] = place(evtFetchAddr).in(0, a) }

// SetIPA sets the address that stage 2 could not translate, and clears the rest of its double-word.
func (e *Event) SetIPA(a uint64) { e[3] = place(evtIPA).in(0, a) }

// SetSubstream gives the record a valid SubstreamID: it sets SSV.
func (e *Event) SetSubstream(s SubstreamID) {
	e.set(evtSSV, 1)
	e.set(evtSubstreamID, uint64(s))
}

// SetSubstreamOnly sets the SubstreamID of a record that has no SSV: C_BAD_SUBSTREAMID (§7.3.9).
func (e *Event) SetSubstreamOnly(s SubstreamID) { e.set(evtSubstreamID, uint64(s)) }

// The rows of event records (§7.3).
var (
	evtRows = []row{
		{name: "type", place: evtType, mean: stringOf[EventType]},
		{name: "StreamID", place: evtStreamID},
	}
	evtRowsSSV       = []row{{name: "SSV", place: evtSSV, mean: oneOf("without a SubstreamID", "with a SubstreamID")}}
	evtRowsSubstream = []row{{name: "SubstreamID", place: evtSubstreamID}}
	evtRowsReason    = []row{{name: "Reason", place: evtReason}}
	evtRowsGPCF      = []row{{name: "GPCF", place: evtGPCF, mean: oneOf("", "a Granule Protection Check fault")}}
	evtRowsUUT       = []row{{name: "Reason", place: evtUUTReason}}
	evtRowsStall     = []row{
		{name: "STAG", place: evtSTAG},
		{name: "Stall", place: evtStall, mean: oneOf("terminated", "stalled: waits for CMD_RESUME")},
	}
	evtRowsAccess = []row{
		{name: "PnU", place: evtPnU, mean: oneOf("unprivileged", "privileged")},
		{name: "InD", place: evtInD, mean: oneOf("data", "instruction")},
	}
	evtRowsRnW   = []row{{name: "RnW", place: evtRnW, mean: oneOf("write", "read")}}
	evtRowsNSIPA = []row{{name: "NSIPA", place: evtNSIPA}}
	evtRowsStage = []row{
		{name: "S2", place: evtS2, mean: oneOf("stage 1 faulted", "stage 2 faulted")},
		{name: "CLASS", place: evtCLASS, mean: func(v uint64) string { return "the fault is of " + Class(v).String() }},
	}
	evtRowsTTRnW = []row{{name: "TTRnW", place: evtTTRnW, mean: oneOf("write", "read")}}
	evtRowsInput = []row{{name: "InputAddr", place: evtInputAddr}}
	evtRowsIPA   = []row{{name: "IPA", place: evtIPA}}
	evtRowsFetch = []row{{name: "FetchAddr", place: evtFetchAddr}}
)

// event is a row of the types of events.
type event struct {
	name   string // the specification's
	means  string
	fields [][]row // besides the type and the StreamID
}

// events are the types of event records by their number (§7.3.2 to §7.3.20). A number without a row
// is reserved or IMPLEMENTATION DEFINED.
var events = func() (t [256]event) {
	add := func(typ EventType, name, means string, fields ...[]row) {
		t[typ] = event{name, means, fields}
	}
	sub := func(more ...[]row) [][]row { return append([][]row{evtRowsSSV, evtRowsSubstream}, more...) }
	fault := func(more ...[]row) [][]row {
		fields := sub(evtRowsStall, evtRowsAccess, evtRowsRnW, evtRowsNSIPA, evtRowsStage, evtRowsInput, evtRowsIPA)
		return append(fields, more...)
	}

	add(FUUT, "F_UUT", "the transaction is unsupported", sub(evtRowsUUT, evtRowsAccess, evtRowsRnW, evtRowsInput)...)
	add(CBadStreamID, "C_BAD_STREAMID", "the StreamID is not in the Stream table", sub()...)
	add(FSTEFetch, "F_STE_FETCH", "the STE could not be read", sub(evtRowsReason, evtRowsGPCF, evtRowsFetch)...)
	add(CBadSTE, "C_BAD_STE", "the STE is illegal", sub()...)
	add(FBadATSTReq, "F_BAD_ATS_TREQ", "the stream does not allow ATS Translation Requests", sub(evtRowsInput)...)
	add(FStreamDisabled, "F_STREAM_DISABLED",
		"the stream terminates transactions without a SubstreamID, or with SubstreamID 0")
	add(FTranslForbidden, "F_TRANSL_FORBIDDEN", "the stream does not allow Translated transactions",
		sub(evtRowsRnW, evtRowsInput)...)
	add(CBadSubstreamID, "C_BAD_SUBSTREAMID", "the SubstreamID has no Context Descriptor", evtRowsSubstream)
	add(FCDFetch, "F_CD_FETCH", "the Context Descriptor could not be read",
		sub(evtRowsReason, evtRowsGPCF, evtRowsFetch)...)
	add(CBadCD, "C_BAD_CD", "the Context Descriptor is illegal", sub()...)
	add(FWalkEABT, "F_WALK_EABT", "a translation table descriptor could not be read or updated",
		sub(evtRowsReason, evtRowsAccess, evtRowsRnW, evtRowsStage, evtRowsInput, evtRowsFetch)...)
	add(FTranslation, "F_TRANSLATION", "the address is not mapped", fault()...)
	add(FAddrSize, "F_ADDR_SIZE", "the output address is out of range", fault()...)
	add(FAccess, "F_ACCESS", "the Access flag is clear", fault()...)
	add(FPermission, "F_PERMISSION", "the mapping does not allow the access", fault(evtRowsTTRnW)...)
	add(FTLBConflict, "F_TLB_CONFLICT", "the TLB holds conflicting translations",
		sub(evtRowsReason, evtRowsAccess, evtRowsRnW, evtRowsInput)...)
	add(FCfgConflict, "F_CFG_CONFLICT", "the configuration cache holds conflicting entries", sub(evtRowsReason)...)
	add(EPageRequest, "E_PAGE_REQUEST", "the device will access the pages soon", sub(evtRowsInput)...)
	add(FVMSFetch, "F_VMS_FETCH", "the VMS could not be read", sub(evtRowsReason, evtRowsGPCF, evtRowsFetch)...)
	return t
}()

// String returns the specification's name.
func (t EventType) String() string {
	if name := events[t].name; name != "" {
		return name
	}
	return fmt.Sprintf("event %#02x", uint8(t))
}

// Words describes the cause of an event of the type.
func (t EventType) Words() string {
	if means := events[t].means; means != "" {
		return means
	}
	return "a reserved or IMPLEMENTATION DEFINED type"
}

// Fields explains the record field by field. The type comes first.
func (e Event) Fields() []Field {
	return explain(e[:], append([][]row{evtRows}, events[e.Type()].fields...)...)
}

// String returns the type, the stream and the address.
func (e Event) String() string {
	s := fmt.Sprintf("%v stream %v", e.Type(), e.StreamID())
	if e.SSV() || e.Type() == CBadSubstreamID {
		s += fmt.Sprintf(" substream %v", e.SubstreamID())
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

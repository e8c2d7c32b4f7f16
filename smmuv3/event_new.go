package smmuv3

// The constructors of event records. A constructor is named after its EventType: NewFTranslation
// makes an FTranslation. The record has no SubstreamID; WithSubstream adds one.

// NewEvent returns a record with a type, a StreamID and nothing else.
func NewEvent(t EventType, s StreamID) Event {
	var e Event
	e.SetType(t)
	e.SetStreamID(s)
	return e
}

// Access is the transaction that an event reports.
type Access struct {
	Addr       uint64 // all 64 bits of the address, as the device sent it
	Read       bool   // RnW
	Privileged bool   // PnU
	Instr      bool   // InD; only reads are instruction fetches (§13.1.2)
}

func (e Event) withAccess(a Access) Event {
	e.SetInputAddr(a.Addr)
	e.SetRnW(a.Read)
	e.SetPnU(a.Privileged)
	e.SetInD(a.Instr && a.Read)
	return e
}

// WithSubstream returns the record with a valid SubstreamID: it sets SSV. F_STREAM_DISABLED and
// C_BAD_SUBSTREAMID do not have the bit.
func (e Event) WithSubstream(s SubstreamID) Event {
	e.SetSubstream(s)
	return e
}

// NewFUUT returns an F_UUT: the SMMU does not support the transaction, for an IMPLEMENTATION
// DEFINED reason (§7.3.2).
func NewFUUT(s StreamID, a Access, reason uint16) Event {
	e := NewEvent(FUUT, s).withAccess(a)
	e.set(evtUUTReason, uint64(reason))
	return e
}

// NewCBadStreamID returns a C_BAD_STREAMID: the StreamID is not in the Stream table (§7.3.3).
func NewCBadStreamID(s StreamID) Event { return NewEvent(CBadStreamID, s) }

func newFetch(t EventType, s StreamID, fetch uint64, reason uint16) Event {
	e := NewEvent(t, s)
	e.set(evtReason, uint64(reason))
	e.SetFetchAddr(fetch)
	return e
}

// NewFSTEFetch returns an F_STE_FETCH: reading the STE, or an L1STD, failed at an address (§7.3.4).
func NewFSTEFetch(s StreamID, fetch uint64, reason uint16) Event {
	return newFetch(FSTEFetch, s, fetch, reason)
}

// NewCBadSTE returns a C_BAD_STE: the STE is illegal (§7.3.5).
func NewCBadSTE(s StreamID) Event { return NewEvent(CBadSTE, s) }

// NewFBadATSTReq returns an F_BAD_ATS_TREQ: the stream does not allow ATS (§7.3.6). The permissions
// and the span of the request are left 0.
func NewFBadATSTReq(s StreamID, addr uint64) Event {
	e := NewEvent(FBadATSTReq, s)
	e.SetInputAddr(addr)
	return e
}

// NewFStreamDisabled returns an F_STREAM_DISABLED (§7.3.7).
func NewFStreamDisabled(s StreamID) Event { return NewEvent(FStreamDisabled, s) }

// NewFTranslForbidden returns an F_TRANSL_FORBIDDEN: the stream does not allow Translated
// transactions (§7.3.8).
func NewFTranslForbidden(s StreamID, addr uint64, read bool) Event {
	e := NewEvent(FTranslForbidden, s)
	e.SetInputAddr(addr)
	e.SetRnW(read)
	return e
}

// NewCBadSubstreamID returns a C_BAD_SUBSTREAMID: the SubstreamID has no CD (§7.3.9).
func NewCBadSubstreamID(s StreamID, sub SubstreamID) Event {
	e := NewEvent(CBadSubstreamID, s)
	e.SetSubstreamOnly(sub)
	return e
}

// NewFCDFetch returns an F_CD_FETCH: reading the CD, or an L1CD, failed at an address (§7.3.10).
func NewFCDFetch(s StreamID, fetch uint64, reason uint16) Event {
	return newFetch(FCDFetch, s, fetch, reason)
}

// NewCBadCD returns a C_BAD_CD: the CD is illegal (§7.3.11).
func NewCBadCD(s StreamID) Event { return NewEvent(CBadCD, s) }

// NewFWalkEABT returns an F_WALK_EABT: an access to a translation table of stage 1 failed at an
// address (§7.3.12). For a fault of stage 2, f has the Class and the IPA, as for other faults; the
// record holds only the Class.
func NewFWalkEABT(s StreamID, a Access, f StageFault, fetch uint64, reason uint16) Event {
	e := NewEvent(FWalkEABT, s).withAccess(a)
	e.set(evtReason, uint64(reason))
	e.SetS2(f.Stage2)
	e.SetClass(f.Class)
	e.SetFetchAddr(fetch)
	return e
}

// StageFault says where a translation faults. A fault of stage 1 has ClassIN, except that
// F_WALK_EABT has ClassTT.
type StageFault struct {
	Stage2 bool
	Class  Class
	IPA    uint64 // of a fault of stage 2
}

func newFault(t EventType, s StreamID, a Access, f StageFault) Event {
	e := NewEvent(t, s).withAccess(a)
	e.SetS2(f.Stage2)
	e.SetClass(f.Class)
	if f.Stage2 {
		e.SetIPA(f.IPA)
	}
	return e
}

// NewFTranslation returns an F_TRANSLATION: the address is not mapped (§7.3.13). SetStall marks the
// transaction as stalled.
func NewFTranslation(s StreamID, a Access, f StageFault) Event {
	return newFault(FTranslation, s, a, f)
}

// NewFAddrSize returns an F_ADDR_SIZE: the output address is out of range (§7.3.14). SetStall marks
// the transaction as stalled.
func NewFAddrSize(s StreamID, a Access, f StageFault) Event { return newFault(FAddrSize, s, a, f) }

// NewFAccess returns an F_ACCESS: the Access flag is clear (§7.3.15). SetStall marks the
// transaction as stalled.
func NewFAccess(s StreamID, a Access, f StageFault) Event { return newFault(FAccess, s, a, f) }

// NewFPermission returns an F_PERMISSION: the mapping does not allow the access (§7.3.16). For
// ClassTT, SetTTRnW sets whether the table walk was reading. SetStall marks the transaction as
// stalled.
func NewFPermission(s StreamID, a Access, f StageFault) Event { return newFault(FPermission, s, a, f) }

// NewFTLBConflict returns an F_TLB_CONFLICT (§7.3.17).
func NewFTLBConflict(s StreamID, a Access, reason uint16) Event {
	e := NewEvent(FTLBConflict, s).withAccess(a)
	e.set(evtReason, uint64(reason))
	return e
}

// NewFCfgConflict returns an F_CFG_CONFLICT (§7.3.18).
func NewFCfgConflict(s StreamID, reason uint16) Event {
	e := NewEvent(FCfgConflict, s)
	e.set(evtReason, uint64(reason))
	return e
}

// NewEPageRequest returns an E_PAGE_REQUEST, a hint that the device will access the page (§7.3.19).
// The kinds of access and the span are left 0.
func NewEPageRequest(s StreamID, addr uint64) Event {
	e := NewEvent(EPageRequest, s)
	e.SetInputAddr(addr &^ 0xfff)
	return e
}

// NewFVMSFetch returns an F_VMS_FETCH: reading the VMS failed at an address (§7.3.20).
func NewFVMSFetch(s StreamID, fetch uint64, reason uint16) Event {
	return newFetch(FVMSFetch, s, fetch, reason)
}

package smmuv3

import "fmt"

func (c Class) String() string {
	return [4]string{"a Context Descriptor fetch", "a translation table walk", "the input address", "reserved"}[c&3]
}

// Rows of §7.3: those that all records have, and those that types add.
var (
	eventRows = []fieldRow{
		{name: "type", lo: 0, wide: 8, mean: stringOf[EventType]},
		{name: "StreamID", lo: 32, wide: 32},
	}
	eventRowsSSV       = []fieldRow{{name: "SSV", lo: 11, wide: 1, mean: oneOf("without a SubstreamID", "with a SubstreamID")}}
	eventRowsSubstream = []fieldRow{{name: "SubstreamID", lo: 12, wide: 20}}
	eventRowsReason    = []fieldRow{{name: "Reason", lo: 64, wide: 16}}
	eventRowsStall     = []fieldRow{
		{name: "STAG", lo: 64, wide: 16},
		{name: "Stall", lo: 95, wide: 1, mean: oneOf("terminated", "stalled: waits for CMD_RESUME")},
	}
	eventRowsAccess = []fieldRow{
		{name: "PnU", lo: 97, wide: 1, mean: oneOf("unprivileged", "privileged")},
		{name: "InD", lo: 98, wide: 1, mean: oneOf("data", "instruction")},
		{name: "RnW", lo: 99, wide: 1, mean: oneOf("write", "read")},
	}
	eventRowsStage = []fieldRow{
		{name: "NSIPA", lo: 102, wide: 1},
		{name: "S2", lo: 103, wide: 1, mean: oneOf("a fault of stage 1", "a fault of stage 2")},
		{name: "CLASS", lo: 104, wide: 2, mean: func(v uint64) string { return "met by " + Class(v).String() }},
	}
	eventRowsTTRnW  = []fieldRow{{name: "TTRnW", lo: 108, wide: 1, mean: oneOf("write", "read")}}
	eventRowsInput  = []fieldRow{{name: "InputAddr", lo: 128, wide: 64}}
	eventRowsIPA    = []fieldRow{{name: "IPA", lo: 204, wide: 44, shift: 12}}
	eventRowsFetch  = []fieldRow{{name: "FetchAddr", lo: 195, wide: 53, shift: 3}}
	eventRowsUUT    = []fieldRow{{name: "Reason", lo: 80, wide: 16}}
	translationRows = [][]fieldRow{
		eventRows, eventRowsSSV, eventRowsSubstream, eventRowsStall, eventRowsAccess, eventRowsStage, eventRowsInput, eventRowsIPA,
	}
)

func (e Event) rows() [][]fieldRow {
	common := [][]fieldRow{eventRows, eventRowsSSV, eventRowsSubstream}
	switch e.Type() {
	case FUUT:
		return append(common, eventRowsUUT, eventRowsAccess, eventRowsInput)
	case FSTEFetch, FCDFetch, FVMSFetch:
		return append(common, eventRowsReason, eventRowsFetch)
	case FStreamDisabled:
		return [][]fieldRow{eventRows}
	case FTranslForbidden:
		return append(common, eventRowsAccess[2:], eventRowsInput)
	case FBadATSTReq:
		return append(common, eventRowsInput)
	case CBadSubstreamID:
		return [][]fieldRow{eventRows, eventRowsSubstream}
	case FWalkEABT:
		return append(common, eventRowsReason, eventRowsAccess, eventRowsStage[1:], eventRowsInput, eventRowsFetch)
	case FTranslation, FAddrSize, FAccess:
		return translationRows
	case FPermission:
		return append(translationRows[:len(translationRows):len(translationRows)], eventRowsTTRnW)
	}
	return common
}

// Fields explains the record field by field, as its type has them.
func (e Event) Fields() []Field { return explain(e[:], e.rows()...) }

var eventWords = map[EventType]string{
	FUUT: "an unsupported upstream transaction", CBadStreamID: "the StreamID is not in the stream table",
	FSTEFetch: "the STE could not be read", CBadSTE: "the STE is ILLEGAL", FBadATSTReq: "an ATS request where none is allowed",
	FStreamDisabled:  "a transaction without a SubstreamID, or with 0, in a stream that terminates it",
	FTranslForbidden: "a translated transaction where none is allowed", CBadSubstreamID: "the SubstreamID has no Context Descriptor",
	FCDFetch: "the Context Descriptor could not be read", CBadCD: "the Context Descriptor is ILLEGAL",
	FWalkEABT: "a descriptor could not be read or updated", FTranslation: "the address is not mapped",
	FAddrSize: "the output address is out of range", FAccess: "the Access flag is clear",
	FPermission: "the mapping does not allow the access", FTLBConflict: "conflicting translations are cached",
	FCfgConflict: "conflicting configurations are cached", EPageRequest: "a hint that a page will be wanted",
	FVMSFetch: "the VMS could not be read",
}

// Words says in words what an event of the type tells, or that the type is
// reserved.
func (t EventType) Words() string {
	if w, ok := eventWords[t]; ok {
		return w
	}
	return "a type that is reserved or the implementer's own"
}

func (e CmdqErr) String() string {
	switch e {
	case CERROR_NONE:
		return "CERROR_NONE"
	case CERROR_ILL:
		return "CERROR_ILL"
	case CERROR_ABT:
		return "CERROR_ABT"
	case CERROR_ATC_INV_SYNC:
		return "CERROR_ATC_INV_SYNC"
	}
	return fmt.Sprintf("CERROR(%d)", uint32(e))
}

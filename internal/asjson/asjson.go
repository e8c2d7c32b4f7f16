// Package asjson has the JSON forms that replays and boots share.
package asjson

import (
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// ID is a field of the ID registers.
type ID struct {
	Register string `json:"register"`
	Field    string `json:"field"`
	Host     uint32 `json:"host"`
	Guest    uint32 `json:"guest"`
	Reason   string `json:"reason"`
}

// Bind is one call of Stream.Bind, with every field of the stage.
type Bind struct {
	Disposition  string         `json:"disposition"`
	SMMUDisabled bool           `json:"smmu_disabled"`
	Cause        string         `json:"cause"` // the event with which an abort is recorded
	S1ContextPtr uint64         `json:"s1contextptr"`
	S1Fmt        string         `json:"s1fmt"`
	S1CDMax      uint8          `json:"s1cdmax"`
	S1DSS        string         `json:"s1dss"`
	S1CIR        uint8          `json:"s1cir"`
	S1COR        uint8          `json:"s1cor"`
	S1CSH        uint8          `json:"s1csh"`
	S1STALLD     bool           `json:"s1stalld"`
	EATS         string         `json:"eats"`
	S2VMID       uint16         `json:"s2vmid"`
	S2           *smmuv3.Stage2 `json:"s2,omitempty"`    // if stage 2 translates
	Error        string         `json:"error,omitempty"` // the host's
	Text         string         `json:"text"`            // the stage's String
}

// BindOf returns the call that binds g and returns err.
func BindOf(g bridge.GuestStage, err error) Bind {
	b := Bind{
		Disposition: g.Disposition.String(), SMMUDisabled: g.Disabled, Text: g.String(),
		S1ContextPtr: uint64(g.S1ContextPtr), S1CDMax: g.S1CDMax,
		S1CIR: g.S1CIR, S1COR: g.S1COR, S1CSH: g.S1CSH, S1STALLD: g.S1STALLD, S2VMID: uint16(g.S2VMID),
	}
	if g.Disposition.Stage1() {
		b.S1Fmt, b.S1DSS = g.S1Fmt.String(), g.S1DSS.String()
	}
	if g.Disposition.Stage2() {
		b.S2 = &g.S2
	}
	if g.Disposition.Stage1() || g.Disposition.Stage2() {
		b.EATS = g.EATS.String()
	}
	if g.Cause != 0 {
		b.Cause = g.Cause.String()
	}
	if err != nil {
		b.Error = err.Error()
	}
	return b
}

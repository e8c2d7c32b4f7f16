// Package regs has the registers of the edu function: offsets in its memory, and the forms of their
// values. The device model (package edu) and drivers share it.
package regs

import (
	"fmt"
	"strings"
)

// Registers of QEMU's edu device (docs/specs/edu.rst). Those below DMASource have 32 bits.
const (
	ID              = 0x00
	Liveness        = 0x04 // reads as the complement of the written value
	Factorial       = 0x08 // reads as the factorial of the written value, modulo 2^32
	Status          = 0x20
	InterruptStatus = 0x24
	InterruptRaise  = 0x60 // sets bits of InterruptStatus
	InterruptAck    = 0x64 // clears them

	DMASource = 0x80
	DMADest   = 0x88
	DMACount  = 0x90
	DMACmd    = 0x98

	// Buffer is the address of the device's memory in DMASource or DMADest. Only its DMA reaches it.
	Buffer     = 0x4_0000
	BufferSize = 4096
)

// IDValue is the value of ID.
const IDValue = 0x0100_00ed

// FactorialInterrupt is a bit of Status: a new factorial raises an interrupt.
const FactorialInterrupt = 1 << 7

// Bits of DMACmd.
const (
	DMAStart     = 1 << 0 // reads as 1 until the command ends
	DMAToMemory  = 1 << 1 // from Buffer to memory, and not the other way
	DMAInterrupt = 1 << 2 // its end raises an interrupt
)

// Bits of InterruptStatus that the device sets.
const (
	FactorialDone = 1 << 0
	DMADone       = 1 << 8
)

// Registers that QEMU's edu does not have, of 64 bits. Each reads as all ones there.
const (
	Features   = 0x1000 // see Feature
	Result     = 0x1008 // of the last DMA or command: see Outcome
	Attributes = 0x1010 // of DMA and commands: see Attrs
	Command    = 0x1018 // see Op; reads as 0 once the command has ended
	Address    = 0x1020 // argument of commands
	Chunk      = 0x1028 // largest size of a transaction in bytes; 0: a page of 4 KiB
	Control    = 0x1030 // see ControlHang

	// The answer to the last OpTranslate.
	TranslatedAddr = 0x1040 // address of the first byte that Address names, and permissions
	TranslatedSize = 0x1048 // size of the translation

	ATCEntries    = 0x1080 // translations in the ATC
	Invalidations = 0x1088 // ATC invalidations that completed
	// The oldest invalidation of the log. A store to InvalidationInfo removes it.
	InvalidationFirst = 0x1090
	InvalidationLast  = 0x1098
	InvalidationInfo  = 0x10a0 // see LogValid; PASID as in Attrs

	PageGroups    = 0x10c0 // page request groups that wait for their response
	PageResponses = 0x10c8 // responses
	// The oldest response of the log, see Response. A store removes it.
	PageResponse = 0x10d0
)

// LogSize is the number of entries that each log keeps. It drops later ones.
const LogSize = 64

// Feature is a bit of Features.
type Feature uint32

// Features of the function.
const (
	PASID  Feature = 1 << iota
	ATS            // ATC, translations, ATS in Attrs
	PRI            // page requests
	Stalls         // DMA waits if the SMMU stalls it
	FLR            // function-level reset
)

// Magic is bits 63:32 of Features.
const Magic = 0x6564_7531 // "edu1"

// ParseFeatures returns the features that a value of the register Features has. ok is false for
// QEMU's edu.
func ParseFeatures(v uint64) (f Feature, ok bool) { return Feature(v), v>>32 == Magic }

// String returns the names of the features.
func (f Feature) String() string {
	var names []string
	for i, name := range []string{"PASID", "ATS", "PRI", "stalls", "FLR"} {
		if f>>i&1 != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ", ")
}

// Has reports whether f has all features of want.
func (f Feature) Has(want Feature) bool { return f&want == want }

// Attrs is the register Attributes. The zero value means plain DMA, as in QEMU's edu.
type Attrs uint64

// Attributes.
const (
	HasPASID    Attrs = 1 << 0 // bits 51:32 are the PASID
	Privileged  Attrs = 1 << 1 // privileged mode
	Execute     Attrs = 1 << 2 // reads are instruction fetches
	ByATS       Attrs = 1 << 3 // DMA uses translations from the ATC
	AskForPages Attrs = 1 << 4 // with ByATS: a page request precedes a second attempt
	// Force ignores the enables in the configuration space, as a broken device does.
	Force Attrs = 1 << 5

	pasidShift = 32
	pasidMask  = 1<<20 - 1
)

// WithPASID returns the attributes with a PASID.
func (a Attrs) WithPASID(pasid uint32) Attrs {
	return a&^(pasidMask<<pasidShift) | HasPASID | Attrs(pasid&pasidMask)<<pasidShift
}

// PASID returns the PASID, or 0 without HasPASID.
func (a Attrs) PASID() uint32 {
	if a&HasPASID == 0 {
		return 0
	}
	return uint32(a>>pasidShift) & pasidMask
}

// Has reports whether a has all bits of want.
func (a Attrs) Has(want Attrs) bool { return a&want == want }

// ControlHang is a bit of Control: ATC invalidations do not complete until it is clear, or until
// a reset.
const ControlHang = 1 << 0

// Op is the operation of a value of Command, in bits 7:0.
type Op uint8

// Operations.
const (
	// OpTranslate requests the translation of Address, with write permission if OpWrite is set. The
	// ATC does not keep it.
	OpTranslate Op = 1 + iota
	// OpReadTranslated and OpWriteTranslated move DMACount bytes between the translated address
	// Address and the address in Buffer that DMADest or DMASource has.
	OpReadTranslated
	OpWriteTranslated
	// OpRequestPage sends a page request for Address, with OpWrite for writing. It does not wait
	// for the response. Bits 24:16 are the group.
	OpRequestPage
	// OpStopMarker sends a Stop Marker for the PASID.
	OpStopMarker
	// OpClearATC drops all translations.
	OpClearATC
)

// Bits of Command besides the Op.
const (
	OpWrite = 1 << 8
	OpLast  = 1 << 9  // of OpRequestPage: the last request of its group
	OpRead  = 1 << 10 // of OpRequestPage: for reading

	groupShift = 16
	groupMask  = 1<<9 - 1
)

// RequestPage returns the value of Command for a page request.
func RequestPage(group uint16, read, write, last bool) uint64 {
	v := uint64(OpRequestPage) | uint64(group&groupMask)<<groupShift
	for _, f := range []struct {
		set bool
		bit uint64
	}{{read, OpRead}, {write, OpWrite}, {last, OpLast}} {
		if f.set {
			v |= f.bit
		}
	}
	return v
}

// Group returns the page request group in a value of Command.
func Group(command uint64) uint16 { return uint16(command >> groupShift & groupMask) }

// Permissions in TranslatedAddr, below the page's address.
const (
	MayRead    = 1 << 0
	MayWrite   = 1 << 1
	MayExecute = 1 << 2
)

// LogValid is a bit of InvalidationInfo and PageResponse: the log has an entry.
const LogValid = 1 << 63

// InvalidationGlobal is a bit of InvalidationInfo: it is for all PASIDs. HasPASID is another.
const InvalidationGlobal = 1 << 1

// Response is a value of PageResponse.
type Response uint64

// NewResponse returns the entry of a response with a code of CMD_PRI_RESP (IHI 0070 §4.5.2).
func NewResponse(group uint16, code uint8, pasid uint32, hasPASID bool) Response {
	r := LogValid | Response(group&groupMask)<<groupShift | Response(code)<<8
	if hasPASID {
		r |= Response(Attrs(0).WithPASID(pasid))
	}
	return r
}

// Group returns the page request group.
func (r Response) Group() uint16 { return Group(uint64(r)) }

// Code returns the code of the response.
func (r Response) Code() uint8 { return uint8(r >> 8) }

// PASID returns the PASID. ok is false if there is none.
func (r Response) PASID() (pasid uint32, ok bool) {
	a := Attrs(r)
	return a.PASID(), a.Has(HasPASID)
}

// Outcome is the register Result: a Code, and the number of bytes that moved in bits 63:32.
type Outcome uint64

// NewOutcome returns the value of an outcome.
func NewOutcome(c Code, bytes int) Outcome { return Outcome(c) | Outcome(bytes)<<32 }

// Code returns how the DMA or command ended.
func (o Outcome) Code() Code { return Code(o) }

// Bytes returns the number of bytes that moved.
func (o Outcome) Bytes() int { return int(o >> 32) }

// Code is how a DMA or a command ended. A DMA that is split has the code of the last part that
// failed.
type Code uint8

// Codes. String says what each means.
const (
	OK Code = iota
	Aborted
	Unsupported
	CompleterAbort
	Isolated
	NotGranted
	PageRefused
	NoResponse
	NotEnabled
	Invalid
	NoMemory
	Detached
	Reset
	Failed
)

var codes = [...]string{
	OK:             "success",
	Aborted:        "the SMMU terminated it",
	Unsupported:    "translation request: unsupported request",
	CompleterAbort: "translation request: completer abort",
	Isolated:       "an ATC invalidation timed out earlier",
	NotGranted:     "the translation does not grant the access",
	PageRefused:    "page request: refused",
	NoResponse:     "page request: no response in time",
	NotEnabled:     "not enabled in the configuration space",
	Invalid:        "invalid arguments",
	NoMemory:       "no memory at the address",
	Detached:       "the device is behind no SMMU",
	Reset:          "the device was reset",
	Failed:         "failed",
}

func (c Code) String() string {
	if int(c) < len(codes) {
		return codes[c]
	}
	return fmt.Sprintf("Code(%d)", uint8(c))
}

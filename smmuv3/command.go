package smmuv3

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// Opcode identifies a command (§4.1.1).
type Opcode uint8

// The commands of the Non-secure command queue. Their names are the specification's.
const (
	OpPrefetchConfig Opcode = 0x01
	OpPrefetchAddr   Opcode = 0x02
	OpCfgiSTE        Opcode = 0x03
	OpCfgiSTERange   Opcode = 0x04 // CFGI_ALL if Range is RangeAll
	OpCfgiCD         Opcode = 0x05
	OpCfgiCDAll      Opcode = 0x06
	OpCfgiVMSPIDM    Opcode = 0x07
	OpTLBINHAll      Opcode = 0x10
	OpTLBINHASID     Opcode = 0x11
	OpTLBINHVA       Opcode = 0x12
	OpTLBINHVAA      Opcode = 0x13
	OpTLBIEL2All     Opcode = 0x20
	OpTLBIEL2ASID    Opcode = 0x21
	OpTLBIEL2VA      Opcode = 0x22
	OpTLBIEL2VAA     Opcode = 0x23
	OpTLBIS12VMAll   Opcode = 0x28
	OpTLBIS2IPA      Opcode = 0x2a
	OpTLBINSNHAll    Opcode = 0x30
	OpATCInv         Opcode = 0x40
	OpPRIResp        Opcode = 0x41
	OpResume         Opcode = 0x44
	OpStallTerm      Opcode = 0x45
	OpSync           Opcode = 0x46
	OpDPTIAll        Opcode = 0x70
	OpDPTIPA         Opcode = 0x73
)

// The commands of other queues, which are illegal on the Non-secure queue.
const (
	OpTLBIEL3All    Opcode = 0x18
	OpTLBIEL3VA     Opcode = 0x1a
	OpTLBISEL2All   Opcode = 0x50
	OpTLBISEL2ASID  Opcode = 0x51
	OpTLBISEL2VA    Opcode = 0x52
	OpTLBISEL2VAA   Opcode = 0x53
	OpTLBISS12VMAll Opcode = 0x58
	OpTLBISS2IPA    Opcode = 0x5a
	OpTLBISNHAll    Opcode = 0x60
)

// String returns the specification's name without its CMD_ prefix.
func (o Opcode) String() string {
	if name := commands[o].name; name != "" {
		return name
	}
	return fmt.Sprintf("opcode %#02x", uint8(o))
}

// Command is an entry of the command queue (§4.1). The opcode determines its fields:
//
//	 127             76 75 74 73 72 71 69                64
//	+------------------+-----+-----+--+---+----------------+
//	|   Addr[63:12]    | TG  | TTL |  |   |              L |  dw1: TLBI_*_VA, TLBI_S2_IPA
//	|   Addr[63:12]    |     |     |  |   |           Size |       ATC_INV
//	|                  |     |     |  |   |          Range |       CFGI_STE_RANGE
//	|                  |     |     |  |   |              L |       CFGI_STE, CFGI_CD
//	+------------------+-----+-----+--+---+----------------+
//	 63            32 31             12 11 10 9  8 7      0
//	+----------------+-----------------+--+--+--+-+--------+
//	|    StreamID    |   SubstreamID   |V |S |G | | opcode |  dw0: commands on a stream
//	|  ASID |  VMID  |   SCALE | NUM   |  |  |  | | opcode |       TLBI_*
//	|    MSIData     |  MSIAttr MSH CS |  |  |  | | opcode |       SYNC
//	+----------------+-----------------+--+--+--+-+--------+
//
// L is Leaf, V is SSV, S is SSec and G is Global.
type Command [2]uint64

// CommandSize is the size of a command in bytes.
const CommandSize = 16

// The places of the fields.
const (
	cmdOpcode = 0 + 8*wide

	cmdSSec        = 10 + wide
	cmdSSV         = 11 + wide
	cmdSubstreamID = 12 + 20*wide
	cmdStreamID    = 32 + 32*wide
	cmdLeaf        = dw1 + 0 + wide
	cmdRange       = dw1 + 0 + 5*wide
	cmdAddr        = dw1 + 12 + 52*wide + address

	cmdPrefetchSize   = dw1 + 0 + 5*wide
	cmdPrefetchStride = dw1 + 5 + 5*wide

	cmdNUM    = 12 + 5*wide
	cmdSCALE  = 20 + 6*wide
	cmdVMID   = 32 + 16*wide
	cmdASID   = 48 + 16*wide
	cmdTTL128 = dw1 + 7 + wide
	cmdTTL    = dw1 + 8 + 2*wide
	cmdTG     = dw1 + 10 + 2*wide

	cmdGlobal  = 9 + wide
	cmdATCSize = dw1 + 0 + 6*wide

	cmdPRGIndex = dw1 + 0 + 9*wide
	cmdResp     = dw1 + 12 + 2*wide

	cmdAc   = 12 + wide
	cmdAb   = 13 + wide
	cmdSTAG = dw1 + 0 + 16*wide

	cmdCS      = 12 + 2*wide
	cmdMSH     = 22 + 2*wide
	cmdMSIAttr = 24 + 4*wide
	cmdMSIData = 32 + 32*wide
	cmdMSIAddr = dw1 + 2 + 54*wide + address
)

// LoadCommand reads a command from the first 16 bytes of p.
func LoadCommand(p []byte) Command {
	return Command{binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])}
}

// Put writes the command in its memory format.
func (c Command) Put(p *[CommandSize]byte) { putWords(p[:], c[:]) }

func (c *Command) get(p place) uint64 { return p.of(c[p.dw()&1]) }

func (c *Command) set(p place, v uint64) {
	w := &c[p.dw()&1]
	*w = p.in(*w, v)
}

// Opcode returns the command's opcode.
func (c *Command) Opcode() Opcode { return Opcode(c[0]) }

// Fields of the configuration, prefetch and ATC commands (§4.2, §4.3, §4.5).

// SSec reports whether the StreamID is Secure (§4.1.6).
func (c *Command) SSec() bool { return c.get(cmdSSec) != 0 }

// SSV reports whether SubstreamID is valid.
func (c *Command) SSV() bool { return c.get(cmdSSV) != 0 }

// SubstreamID returns the command's SubstreamID.
func (c *Command) SubstreamID() SubstreamID { return SubstreamID(c.get(cmdSubstreamID)) }

// StreamID returns the command's StreamID.
func (c *Command) StreamID() StreamID { return StreamID(c.get(cmdStreamID)) }

// Leaf reports whether the command invalidates leaf entries only, and keeps cached higher levels.
func (c *Command) Leaf() bool { return c.get(cmdLeaf) != 0 }

// Range returns CFGI_STE_RANGE.Range: the command covers 2^(Range+1) StreamIDs (§4.3.2).
func (c *Command) Range() uint { return uint(c.get(cmdRange)) }

// RangeAll is the Range that makes a CFGI_STE_RANGE a CFGI_ALL (§4.3.6).
const RangeAll = 31

// Global reports ATC_INV.Global (§4.5.1).
func (c *Command) Global() bool { return c.get(cmdGlobal) != 0 }

// ATCSize returns ATC_INV.Size: the command covers 4096 * 2^Size bytes (§4.5.1).
func (c *Command) ATCSize() uint { return uint(c.get(cmdATCSize)) }

// ATCSizeAll is the Size that makes an ATC_INV cover all addresses (§4.5.1).
const ATCSizeAll = 52

// Fields of the TLB invalidations (§4.4).

// VMID returns the command's VMID.
func (c *Command) VMID() VMID { return VMID(c.get(cmdVMID)) }

// ASID returns the command's ASID.
func (c *Command) ASID() ASID { return ASID(c.get(cmdASID)) }

// Num returns NUM: with TG other than 0, the command covers (NUM+1) * 2^SCALE granules (§4.4.1.1).
func (c *Command) Num() uint { return uint(c.get(cmdNUM)) }

// Scale returns SCALE. Its sixth bit is RES0 without IDR5.DS (§4.4.1.1).
func (c *Command) Scale() uint { return uint(c.get(cmdSCALE)) }

// TTL returns the level of the leaf entries, or 0 for any level (§4.4.1.1).
func (c *Command) TTL() uint { return uint(c.get(cmdTTL)) }

// TG returns the granule's encoding, 0 for a command without range and level (§4.4.1.1).
func (c *Command) TG() uint { return uint(c.get(cmdTG)) }

// Addr returns the address of a TLBI, PREFETCH_ADDR or ATC_INV.
func (c *Command) Addr() uint64 { return c.get(cmdAddr) }

// Fields of PRI_RESP (§4.5.2).

// PRGIndex returns the Page Request Group that PRI_RESP answers.
func (c *Command) PRGIndex() uint16 { return uint16(c.get(cmdPRGIndex)) }

// Resp returns the answer of a PRI_RESP. The value 3 is reserved.
func (c *Command) Resp() PRGResponse { return PRGResponse(c.get(cmdResp)) }

// Fields of RESUME (§4.7.1).

// ResumeRetry reports RESUME.Ac: the transaction is retried.
func (c *Command) ResumeRetry() bool { return c.get(cmdAc) != 0 }

// ResumeAbort reports RESUME.Ab: a terminated transaction aborts, and is not RAZ/WI.
func (c *Command) ResumeAbort() bool { return c.get(cmdAb) != 0 }

// STAG returns the token of the stalled transaction.
func (c *Command) STAG() uint16 { return uint16(c.get(cmdSTAG)) }

// Fields of SYNC (§4.7.3).

// CompletionSignal is SYNC.CS: how the SMMU signals that a SYNC is complete.
type CompletionSignal uint8

// Values of SYNC.CS (§4.7.3).
const (
	SignalNone     CompletionSignal = 0
	SignalIRQ      CompletionSignal = 1
	SignalSEV      CompletionSignal = 2
	SignalReserved CompletionSignal = 3
)

// String describes the signal.
func (s CompletionSignal) String() string {
	return [4]string{"none", "interrupt", "event to the processors", "reserved"}[s&3]
}

// CS returns how the SMMU signals that the SYNC is complete.
func (c *Command) CS() CompletionSignal { return CompletionSignal(c.get(cmdCS)) }

// MSIData returns the data of the SYNC's MSI.
func (c *Command) MSIData() uint32 { return uint32(c.get(cmdMSIData)) }

// MSIAddr returns the address of the SYNC's MSI, 0 for none.
func (c *Command) MSIAddr() uint64 { return c.get(cmdMSIAddr) }

// StreamRange returns the StreamIDs that a CFGI_STE_RANGE covers: 2^(Range+1) of them, aligned, or
// all for CFGI_ALL (§4.3.2, §4.3.6).
func (c *Command) StreamRange() (first, last StreamID) {
	low := StreamID(1<<(c.Range()+1) - 1)
	return c.StreamID() &^ low, c.StreamID() | low
}

// The rows of commands (§4.2 to §4.7).
var (
	cmdRowOpcode = []row{{name: "opcode", place: cmdOpcode, mean: stringOf[Opcode]}}
	cmdRowSSec   = []row{{name: "SSec", place: cmdSSec, mean: oneOf("", "a Secure stream")}}
	cmdRowStream = []row{{name: "StreamID", place: cmdStreamID}}
	cmdRowSub    = []row{{name: "SubstreamID", place: cmdSubstreamID, defined: ifHas(SSIDSIZE, 20)}}
	cmdRowsSub   = []row{{name: "SSV", place: cmdSSV, defined: ifHas(SSIDSIZE, 1)}, cmdRowSub[0]}
	cmdRowLeaf   = []row{{name: "Leaf", place: cmdLeaf}}
	cmdRowRange  = []row{{name: "Range", place: cmdRange, mean: func(v uint64) string {
		if v == RangeAll {
			return "CFGI_ALL"
		}
		return fmt.Sprintf("%d StreamIDs", uint64(2)<<v)
	}}}
	cmdRowVMID = []row{{name: "VMID", place: cmdVMID, defined: func(ids *IDRegs) uint {
		switch {
		case !ids.Has(S2P):
			return 0 // RES0 (§4.4.2)
		case !ids.Has(VMID16):
			return 8
		}
		return 16
	}}}
	cmdRowASID = []row{{name: "ASID", place: cmdASID, defined: func(ids *IDRegs) uint {
		if !ids.Has(ASID16) {
			return 8
		}
		return 16
	}}}
	cmdRowAddr = []row{{name: "Addr", place: cmdAddr}}
	// The fields of a range or level, which come with IDR3.RIL (§4.4.1.1). NUM and SCALE come
	// first.
	cmdRowsTLBIRange = []row{
		{name: "NUM", place: cmdNUM, defined: ifHas(RIL, 5)},
		{name: "SCALE", place: cmdSCALE, defined: func(ids *IDRegs) uint {
			switch {
			case !ids.Has(RIL):
				return 0
			case !ids.Has(DS):
				return 5
			}
			return 6
		}},
		{name: "TTL128", place: cmdTTL128, mean: oneOf("", "of 128-bit descriptors"), defined: func(ids *IDRegs) uint {
			return min(ifHas(RIL, 1)(ids), ifHas(D128, 1)(ids))
		}},
		{name: "TTL", place: cmdTTL, mean: oneOf("any level", "level 1", "level 2", "level 3"), defined: ifHas(RIL, 2)},
		{name: "TG", place: cmdTG, mean: oneOf("no range", "4 KiB", "16 KiB", "64 KiB"), defined: ifHas(RIL, 2)},
	}
	cmdRowsATC = []row{
		{name: "Global", place: cmdGlobal, mean: oneOf("", "of every SubstreamID"), defined: ifHas(SSIDSIZE, 1)},
		{name: "Size", place: cmdATCSize, mean: func(v uint64) string {
			if v >= ATCSizeAll {
				return "everything"
			}
			return fmt.Sprintf("4 KiB * 2^%d", v)
		}},
	}
	cmdRowsPRI = []row{
		{name: "PRGIndex", place: cmdPRGIndex},
		{name: "Resp", place: cmdResp, mean: stringOf[PRGResponse]},
	}
	cmdRowsPrefetch = []row{
		{name: "Size", place: cmdPrefetchSize, mean: func(v uint64) string {
			return fmt.Sprintf("2^%d translations", v)
		}},
		{name: "Stride", place: cmdPrefetchStride, mean: func(v uint64) string {
			return fmt.Sprintf("4 KiB * 2^%d", v)
		},
			defined: sinceVersion(1, 5)},
	}
	cmdRowsResume = []row{
		{name: "Ac", place: cmdAc, mean: oneOf("terminate", "retry")},
		{name: "Ab", place: cmdAb, mean: oneOf("reads zero, writes ignored", "abort")},
		{name: "STAG", place: cmdSTAG},
	}
	cmdRowsSync = []row{
		{name: "CS", place: cmdCS, mean: func(v uint64) string {
			return "signals by: " + CompletionSignal(v).String()
		}},
		{name: "MSH", place: cmdMSH, mean: shareability},
		{name: "MSIAttr", place: cmdMSIAttr},
		{name: "MSIData", place: cmdMSIData},
		{name: "MSIAddress", place: cmdMSIAddr},
	}
)

// sinceVersion returns the function defined of a row whose field is RES0 before SMMUv3.minor.
func sinceVersion(minor uint32, width uint) func(*IDRegs) uint {
	return func(ids *IDRegs) uint {
		if ids.Version() < minor {
			return 0
		}
		return width
	}
}

func (c *Command) rows() [][]row {
	return append([][]row{cmdRowOpcode}, commands[c.Opcode()].fields...)
}

// Fields explains the command field by field. The opcode comes first.
func (c Command) Fields() []Field { return explain(c[:], c.rows()...) }

// String returns the opcode's name, the StreamID if the command has one, and the other fields that
// are not 0.
func (c Command) String() string {
	var s strings.Builder
	s.WriteString(c.Opcode().String())
	for _, f := range c.Fields()[1:] {
		if f.Value != 0 || f.Name == "StreamID" {
			fmt.Fprintf(&s, " %s=%#x", f.Name, f.Value)
		}
	}
	return s.String()
}

package smmuv3

import (
	"encoding/binary"
	"fmt"
)

// Opcode is the first byte of a command (§4.1.1).
type Opcode uint8

const (
	OpPrefetchConfig Opcode = 0x01
	OpPrefetchAddr   Opcode = 0x02
	OpCfgiSTE        Opcode = 0x03
	OpCfgiSTERange   Opcode = 0x04 // and CFGI_ALL: Range = 31
	OpCfgiCD         Opcode = 0x05
	OpCfgiCDAll      Opcode = 0x06
	OpCfgiVMSPIDM    Opcode = 0x07
	OpTLBINHAll      Opcode = 0x10
	OpTLBINHASID     Opcode = 0x11
	OpTLBINHVA       Opcode = 0x12
	OpTLBINHVAA      Opcode = 0x13
	OpTLBIEL3All     Opcode = 0x18
	OpTLBIEL3VA      Opcode = 0x1a
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
)

var opcodeNames = map[Opcode]string{
	OpPrefetchConfig: "PREFETCH_CONFIG", OpPrefetchAddr: "PREFETCH_ADDR",
	OpCfgiSTE: "CFGI_STE", OpCfgiSTERange: "CFGI_STE_RANGE", OpCfgiCD: "CFGI_CD",
	OpCfgiCDAll: "CFGI_CD_ALL", OpCfgiVMSPIDM: "CFGI_VMS_PIDM",
	OpTLBINHAll: "TLBI_NH_ALL", OpTLBINHASID: "TLBI_NH_ASID", OpTLBINHVA: "TLBI_NH_VA",
	OpTLBINHVAA: "TLBI_NH_VAA", OpTLBIEL3All: "TLBI_EL3_ALL", OpTLBIEL3VA: "TLBI_EL3_VA",
	OpTLBIEL2All: "TLBI_EL2_ALL", OpTLBIEL2ASID: "TLBI_EL2_ASID", OpTLBIEL2VA: "TLBI_EL2_VA",
	OpTLBIEL2VAA: "TLBI_EL2_VAA", OpTLBIS12VMAll: "TLBI_S12_VMALL", OpTLBIS2IPA: "TLBI_S2_IPA",
	OpTLBINSNHAll: "TLBI_NSNH_ALL", OpATCInv: "ATC_INV", OpPRIResp: "PRI_RESP",
	OpResume: "RESUME", OpStallTerm: "STALL_TERM", OpSync: "SYNC",
}

// String is the specification's name, without its CMD_ prefix.
func (o Opcode) String() string {
	if n, ok := opcodeNames[o]; ok {
		return n
	}
	return fmt.Sprintf("opcode %#02x", uint8(o))
}

// Command is an entry of the command queue (§4.1): the opcode in [7:0], and
// fields whose place depends on it.
type Command [2]uint64

// LoadCommand reads a command from the 16 bytes at the start of p.
func LoadCommand(p []byte) Command {
	return Command{binary.LittleEndian.Uint64(p), binary.LittleEndian.Uint64(p[8:])}
}

// Put writes the command as it lies in memory.
func (c Command) Put(p *[CommandSize]byte) { putWords(p[:], c[:]) }

func (c *Command) Opcode() Opcode { return Opcode(c[0]) }

// Fields of the configuration, prefetch and ATC commands (§4.2, §4.3, §4.5).

func (c *Command) SSec() bool               { return bit(c[0], 10) }
func (c *Command) SSV() bool                { return bit(c[0], 11) }
func (c *Command) SubstreamID() SubstreamID { return SubstreamID(bits(c[0], 12, 20)) }
func (c *Command) StreamID() StreamID       { return StreamID(c[0] >> 32) }
func (c *Command) Leaf() bool               { return bit(c[1], 0) }

// Range is CMD_CFGI_STE_RANGE.Range: 2^(Range+1) StreamIDs (§4.3.2).
func (c *Command) Range() uint { return uint(bits(c[1], 0, 5)) }

// RangeAll is the Range that makes a CFGI_STE_RANGE a CFGI_ALL (§4.3.6).
const RangeAll = 31

// Global is CMD_ATC_INV.Global (§4.5.1).
func (c *Command) Global() bool { return bit(c[0], 9) }

// ATCSize is CMD_ATC_INV.Size: the span is 4096 * 2^Size bytes (§4.5.1).
func (c *Command) ATCSize() uint { return uint(bits(c[1], 0, 6)) }

// Fields of the TLB invalidations (§4.4).

func (c *Command) VMID() VMID   { return VMID(c[0] >> 32) }
func (c *Command) ASID() ASID   { return ASID(c[0] >> 48) }
func (c *Command) Num() uint    { return uint(bits(c[0], 12, 5)) }
func (c *Command) Scale() uint  { return uint(bits(c[0], 20, 6)) }
func (c *Command) TTL() uint    { return uint(bits(c[1], 8, 2)) }
func (c *Command) TG() uint     { return uint(bits(c[1], 10, 2)) }
func (c *Command) Addr() uint64 { return c[1] &^ 0xfff }

// Fields of CMD_PRI_RESP (§4.5.2).

func (c *Command) PRGIndex() uint16 { return uint16(bits(c[1], 0, 9)) }
func (c *Command) Resp() uint8      { return uint8(bits(c[1], 12, 2)) }

// Fields of CMD_RESUME (§4.7.1).

func (c *Command) ResumeRetry() bool { return bit(c[0], 12) } // Ac
func (c *Command) ResumeAbort() bool { return bit(c[0], 13) } // Ab
func (c *Command) STAG() uint16      { return uint16(c[1]) }

// Fields of CMD_SYNC (§4.7.3).

// CompletionSignal is CMD_SYNC.CS.
type CompletionSignal uint8

const (
	SignalNone     CompletionSignal = 0
	SignalIRQ      CompletionSignal = 1
	SignalSEV      CompletionSignal = 2
	SignalReserved CompletionSignal = 3
)

func (c *Command) CS() CompletionSignal { return CompletionSignal(bits(c[0], 12, 2)) }
func (c *Command) MSIData() uint32      { return uint32(c[0] >> 32) }
func (c *Command) MSIAddr() uint64      { return c[1] & IRQCfgAddrMask }

// StreamRange is which StreamIDs a CFGI_STE_RANGE means: 2^(Range+1) of them,
// aligned, or all with CFGI_ALL (§4.3.2, §4.3.6).
func (c *Command) StreamRange() (first, last StreamID) {
	low := StreamID(1<<(c.Range()+1) - 1)
	return c.StreamID() &^ low, c.StreamID() | low
}

// NewTLBINSNHAll is the command that invalidates every translation of the
// Non-secure, non-hypervisor regimes.
func NewTLBINSNHAll() Command { return Command{uint64(OpTLBINSNHAll)} }

// NewCfgiCDAll is the command that invalidates every CD cached for a stream.
func NewCfgiCDAll(sid StreamID) Command {
	return Command{uint64(OpCfgiCDAll) | uint64(sid)<<32}
}

// NewATCInvAll is the command that invalidates all that a stream's endpoint
// caches, of every substream: Size 52 is everything, Global any SubstreamID
// (§4.5.1). It takes two, as Global means nothing without SSV.
func NewATCInvAll(sid StreamID) [2]Command {
	all := Command{uint64(OpATCInv) | uint64(sid)<<32, 52}
	global := all
	global[0] |= 1<<9 | 1<<11
	return [2]Command{all, global}
}

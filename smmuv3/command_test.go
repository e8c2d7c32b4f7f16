package smmuv3

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

// The getters' bits, checked against the CMDQ_* masks of Linux and the CMD_* ones of QEMU (Chapter
// 4).
func TestCommandLayout(t *testing.T) {
	testLayout(t, []field[Command]{
		{"Opcode", 0, 0x0000_0000_0000_00ff, false, func(c *Command) uint64 { return uint64(c.Opcode()) }, nil},
		{"ATC_INV.Global", 0, 0x0000_0000_0000_0200, false, func(c *Command) uint64 { return b2u(c.Global()) }, nil},
		{"SSec", 0, 0x0000_0000_0000_0400, false, func(c *Command) uint64 { return b2u(c.SSec()) }, nil},
		{"SSV", 0, 0x0000_0000_0000_0800, false, func(c *Command) uint64 { return b2u(c.SSV()) }, nil},
		{"SubstreamID", 0, 0x0000_0000_ffff_f000, false, func(c *Command) uint64 { return uint64(c.SubstreamID()) }, nil},
		{"StreamID", 0, 0xffff_ffff_0000_0000, false, func(c *Command) uint64 { return uint64(c.StreamID()) }, nil},
		{"Leaf", 1, 0x0000_0000_0000_0001, false, func(c *Command) uint64 { return b2u(c.Leaf()) }, nil},
		{"CFGI_STE_RANGE.Range", 1, 0x0000_0000_0000_001f, false, func(c *Command) uint64 { return uint64(c.Range()) }, nil},
		{"TLBI.NUM", 0, 0x0000_0000_0001_f000, false, func(c *Command) uint64 { return uint64(c.Num()) }, nil},
		{"TLBI.SCALE", 0, 0x0000_0000_03f0_0000, false, func(c *Command) uint64 { return uint64(c.Scale()) }, nil},
		{"TLBI.VMID", 0, 0x0000_ffff_0000_0000, false, func(c *Command) uint64 { return uint64(c.VMID()) }, nil},
		{"TLBI.ASID", 0, 0xffff_0000_0000_0000, false, func(c *Command) uint64 { return uint64(c.ASID()) }, nil},
		{"TLBI.TTL", 1, 0x0000_0000_0000_0300, false, func(c *Command) uint64 { return uint64(c.TTL()) }, nil},
		{"TLBI.TG", 1, 0x0000_0000_0000_0c00, false, func(c *Command) uint64 { return uint64(c.TG()) }, nil},
		{"Address", 1, 0xffff_ffff_ffff_f000, true, func(c *Command) uint64 { return c.Addr() }, nil},
		{"ATC_INV.Size", 1, 0x0000_0000_0000_003f, false, func(c *Command) uint64 { return uint64(c.ATCSize()) }, nil},
		{"PRI_RESP.PRGIndex", 1, 0x0000_0000_0000_01ff, false, func(c *Command) uint64 { return uint64(c.PRGIndex()) }, nil},
		{"PRI_RESP.Resp", 1, 0x0000_0000_0000_3000, false, func(c *Command) uint64 { return uint64(c.Resp()) }, nil},
		{"RESUME.Ac", 0, 0x0000_0000_0000_1000, false, func(c *Command) uint64 { return b2u(c.ResumeRetry()) }, nil},
		{"RESUME.Ab", 0, 0x0000_0000_0000_2000, false, func(c *Command) uint64 { return b2u(c.ResumeAbort()) }, nil},
		{"RESUME.STAG", 1, 0x0000_0000_0000_ffff, false, func(c *Command) uint64 { return uint64(c.STAG()) }, nil},
		{"SYNC.CS", 0, 0x0000_0000_0000_3000, false, func(c *Command) uint64 { return uint64(c.CS()) }, nil},
		{"SYNC.MSIData", 0, 0xffff_ffff_0000_0000, false, func(c *Command) uint64 { return uint64(c.MSIData()) }, nil},
		{"SYNC.MSIAddress", 1, 0x00ff_ffff_ffff_fffc, true, func(c *Command) uint64 { return c.MSIAddr() }, nil},
	})
}

// Commands as Linux writes them in memory.
func TestCommandsInMemory(t *testing.T) {
	p := []byte{
		0x12, 0x10, 0xa0, 0x00, 0x00, 0x00, 0x34, 0x12,
		0x01, 0x07, 0x00, 0x80, 0xff, 0xff, 0x00, 0x00,
		0xee, // the next command
	}
	c := LoadCommand(p)
	assert.Equal(t, Command{0x1234_0000_00a0_1012, 0x0000_ffff_8000_0701}, c)
	assert.Equal(t, OpTLBINHVA, c.Opcode())
	assert.Equal(t, ASID(0x1234), c.ASID())
	assert.Equal(t, VMID(0), c.VMID())
	assert.Equal(t, uint(1), c.Num())
	assert.Equal(t, uint(10), c.Scale())
	assert.True(t, c.Leaf())
	assert.Equal(t, uint(3), c.TTL())
	assert.Equal(t, uint(1), c.TG())
	assert.Equal(t, uint64(0xffff_8000_0000), c.Addr())
	var back [CommandSize]byte
	c.Put(&back)
	assert.Equal(t, p[:16], back[:])

	sync := Command{0x0000_0000_0fc0_1046, 0x0000_0000_4123_4564}
	assert.Equal(t, OpSync, sync.Opcode())
	assert.Equal(t, SignalIRQ, sync.CS())
	assert.Equal(t, uint32(0), sync.MSIData())
	assert.Equal(t, uint64(0x4123_4564), sync.MSIAddr())
	sync[0] = 0x0fc0_2046
	assert.Equal(t, SignalSEV, sync.CS())

	cd := Command{0x0000_0008_0000_5805, 1} // CFGI_CD of stream 8, substream 5
	assert.Equal(t, OpCfgiCD, cd.Opcode())
	assert.Equal(t, StreamID(8), cd.StreamID())
	assert.Equal(t, SubstreamID(5), cd.SubstreamID())
	assert.True(t, cd.SSV())
	assert.True(t, cd.Leaf())
}

// CFGI_STE_RANGE covers 2^(Range+1) StreamIDs and ignores the low Range+1 bits of StreamID
// (§4.3.2). Range 31 covers all (§4.3.6).
func TestStreamRange(t *testing.T) {
	for _, c := range []struct {
		sid         StreamID
		r           uint64
		first, last StreamID
	}{
		{0x100, 0, 0x100, 0x101},
		{0x101, 0, 0x100, 0x101},
		{0x1ff, 7, 0x100, 0x1ff},
		{0xffff_ffff, 15, 0xffff_0000, 0xffff_ffff},
		{0xffff_ffff, 30, 0x8000_0000, 0xffff_ffff},
		{0x1234_5678, RangeAll, 0, 0xffff_ffff},
	} {
		// Bits above Range are ignored.
		cmd := Command{0x04 | uint64(c.sid)<<32, 0xffff_ffff_ffff_ffe0 | c.r}
		first, last := cmd.StreamRange()
		assert.Equal(t, [2]StreamID{c.first, c.last}, [2]StreamID{first, last}, "%v range %d", c.sid, c.r)
	}
}

// The opcodes and names of §4.1.1.
func TestOpcodes(t *testing.T) {
	want := map[Opcode]string{
		0x01: "PREFETCH_CONFIG", 0x02: "PREFETCH_ADDR", 0x03: "CFGI_STE", 0x04: "CFGI_STE_RANGE",
		0x05: "CFGI_CD", 0x06: "CFGI_CD_ALL", 0x07: "CFGI_VMS_PIDM",
		0x10: "TLBI_NH_ALL", 0x11: "TLBI_NH_ASID", 0x12: "TLBI_NH_VA", 0x13: "TLBI_NH_VAA",
		0x18: "TLBI_EL3_ALL", 0x1a: "TLBI_EL3_VA",
		0x20: "TLBI_EL2_ALL", 0x21: "TLBI_EL2_ASID", 0x22: "TLBI_EL2_VA", 0x23: "TLBI_EL2_VAA",
		0x28: "TLBI_S12_VMALL", 0x2a: "TLBI_S2_IPA", 0x30: "TLBI_NSNH_ALL",
		0x40: "ATC_INV", 0x41: "PRI_RESP", 0x44: "RESUME", 0x45: "STALL_TERM", 0x46: "SYNC",
		0x50: "TLBI_S_EL2_ALL", 0x51: "TLBI_S_EL2_ASID", 0x52: "TLBI_S_EL2_VA", 0x53: "TLBI_S_EL2_VAA",
		0x58: "TLBI_S_S12_VMALL", 0x5a: "TLBI_S_S2_IPA", 0x60: "TLBI_SNH_ALL",
		0x70: "DPTI_ALL", 0x73: "DPTI_PA",
	}
	for op := range 256 {
		name, ok := want[Opcode(op)]
		if !ok {
			name = fmt.Sprintf("opcode %#02x", op)
		}
		assert.Equal(t, name, Opcode(op).String())
	}
}

package smmuv3

// The constructors of commands. A constructor is named after its opcode: NewCfgiSTE makes an
// OpCfgiSTE. An argument that is wider than its field loses its upper bits.

func newCommand(op Opcode) Command { return Command{uint64(op)} }

func newStreamCommand(op Opcode, s StreamID) Command { return Command{op.StreamWord(s)} }

// StreamWord returns double-word 0 of a command that has no fields besides the StreamID. For a
// CFGI_CD_ALL that is the whole command, since its double-word 1 is 0.
func (o Opcode) StreamWord(s StreamID) (dw0 uint64) { return cmdStreamID.in(uint64(o), uint64(s)) }

// NewPrefetchConfig returns a PREFETCH_CONFIG for a stream (§4.2.1).
func NewPrefetchConfig(s StreamID) Command { return newStreamCommand(OpPrefetchConfig, s) }

// NewPrefetchAddr returns a PREFETCH_ADDR of 2^size translations from addr on, which are
// 2^(12+stride) bytes apart (§4.2.2).
func NewPrefetchAddr(s StreamID, addr uint64, size, stride uint) Command {
	c := newStreamCommand(OpPrefetchAddr, s)
	c.set(cmdAddr, addr)
	c.set(cmdPrefetchSize, uint64(size))
	c.set(cmdPrefetchStride, uint64(stride))
	return c
}

// NewCfgiSTE returns a CFGI_STE, which invalidates a stream's STE and CDs (§4.3.1). With leaf,
// cached level-1 descriptors stay valid.
func NewCfgiSTE(s StreamID, leaf bool) Command {
	c := newStreamCommand(OpCfgiSTE, s)
	c.set(cmdLeaf, b2u(leaf))
	return c
}

// NewCfgiSTERange returns a CFGI_STE_RANGE, which invalidates the STEs and CDs of 2^(span+1)
// StreamIDs (§4.3.2). The range is aligned to its size and contains s.
func NewCfgiSTERange(s StreamID, span uint) Command {
	c := newStreamCommand(OpCfgiSTERange, s)
	c.set(cmdRange, uint64(span))
	return c
}

// NewCfgiAll returns a CFGI_ALL, which invalidates all cached configuration (§4.3.6). Its opcode is
// OpCfgiSTERange.
func NewCfgiAll() Command { return NewCfgiSTERange(0, RangeAll) }

// NewCfgiCD returns a CFGI_CD, which invalidates one CD of a stream (§4.3.3). With leaf, cached
// level-1 descriptors stay valid.
func NewCfgiCD(s StreamID, sub SubstreamID, leaf bool) Command {
	c := newStreamCommand(OpCfgiCD, s)
	c.set(cmdSubstreamID, uint64(sub))
	c.set(cmdLeaf, b2u(leaf))
	return c
}

// NewCfgiCDAll returns a CFGI_CD_ALL, which invalidates all CDs of a stream (§4.3.4).
func NewCfgiCDAll(s StreamID) Command { return newStreamCommand(OpCfgiCDAll, s) }

// NewCfgiVMSPIDM returns a CFGI_VMS_PIDM, which invalidates the MPAM map of a VMID (§4.3.5).
func NewCfgiVMSPIDM(v VMID) Command {
	c := newCommand(OpCfgiVMSPIDM)
	c.set(cmdVMID, uint64(v))
	return c
}

// newTLBI returns a TLB invalidation. The caller passes 0 for fields that the opcode does not have.
func newTLBI(op Opcode, v VMID, a ASID, addr uint64, leaf bool) Command {
	c := newCommand(op)
	c.set(cmdVMID, uint64(v))
	c.set(cmdASID, uint64(a))
	c.set(cmdAddr, addr)
	c.set(cmdLeaf, b2u(leaf))
	return c
}

// NewTLBINHAll returns a TLBI_NH_ALL, which invalidates stage 1 of a VMID (§4.4.2.1). An SMMU
// without stage 2 has the VMID 0 only.
func NewTLBINHAll(v VMID) Command { return newTLBI(OpTLBINHAll, v, 0, 0, false) }

// NewTLBINHASID returns a TLBI_NH_ASID, which invalidates stage 1 of an ASID (§4.4.2.2).
func NewTLBINHASID(v VMID, a ASID) Command { return newTLBI(OpTLBINHASID, v, a, 0, false) }

// NewTLBINHVA returns a TLBI_NH_VA, which invalidates stage 1 of an address in an ASID (§4.4.2.4).
// With leaf, cached table descriptors stay valid. WithRange gives it a range.
func NewTLBINHVA(v VMID, a ASID, addr uint64, leaf bool) Command {
	return newTLBI(OpTLBINHVA, v, a, addr, leaf)
}

// NewTLBINHVAA returns a TLBI_NH_VAA, which is a TLBI_NH_VA for all ASIDs (§4.4.2.3).
func NewTLBINHVAA(v VMID, addr uint64, leaf bool) Command {
	return newTLBI(OpTLBINHVAA, v, 0, addr, leaf)
}

// NewTLBIEL2All returns a TLBI_EL2_ALL (§4.4.2.7).
func NewTLBIEL2All() Command { return newCommand(OpTLBIEL2All) }

// NewTLBIEL2ASID returns a TLBI_EL2_ASID (§4.4.2.10).
func NewTLBIEL2ASID(a ASID) Command { return newTLBI(OpTLBIEL2ASID, 0, a, 0, false) }

// NewTLBIEL2VA returns a TLBI_EL2_VA (§4.4.2.8). WithRange gives it a range.
func NewTLBIEL2VA(a ASID, addr uint64, leaf bool) Command {
	return newTLBI(OpTLBIEL2VA, 0, a, addr, leaf)
}

// NewTLBIEL2VAA returns a TLBI_EL2_VAA (§4.4.2.9). WithRange gives it a range.
func NewTLBIEL2VAA(addr uint64, leaf bool) Command {
	return newTLBI(OpTLBIEL2VAA, 0, 0, addr, leaf)
}

// NewTLBIS12VMAll returns a TLBI_S12_VMALL, which invalidates both stages of a VMID (§4.4.3.2).
func NewTLBIS12VMAll(v VMID) Command { return newTLBI(OpTLBIS12VMAll, v, 0, 0, false) }

// NewTLBIS2IPA returns a TLBI_S2_IPA, which invalidates stage 2 of an address (§4.4.3.1). WithRange
// gives it a range.
func NewTLBIS2IPA(v VMID, ipa uint64, leaf bool) Command {
	return newTLBI(OpTLBIS2IPA, v, 0, ipa, leaf)
}

// NewTLBINSNHAll returns a TLBI_NSNH_ALL, which invalidates all Non-secure translations except
// those of EL2 (§4.4.4.1).
func NewTLBINSNHAll() Command { return newCommand(OpTLBINSNHAll) }

// WithRange returns a TLB invalidation by address for (num+1) * 2^scale granules (§4.4.1.1). A
// level other than 0 limits it to leaf entries of this level. The SMMU needs IDR3.RIL. With any
// value other than the three granules, the command has no range and no level.
func (c Command) WithRange(g Granule, num, scale, level uint) Command {
	tg := map[Granule]uint64{Granule4K: 1, Granule16K: 2, Granule64K: 3}[g]
	c.set(cmdTG, tg)
	c.set(cmdNUM, uint64(num))
	c.set(cmdSCALE, uint64(scale))
	c.set(cmdTTL, uint64(level))
	if tg == 0 {
		c.set(cmdNUM, 0)
		c.set(cmdSCALE, 0)
		c.set(cmdTTL, 0)
	}
	return c
}

// NewATCInv returns an ATC_INV of 4096 * 2^size bytes at addr, which the SMMU aligns to the size
// (§4.5.1). ATCSizeAll covers all addresses. WithSubstream limits it to a SubstreamID.
func NewATCInv(s StreamID, addr uint64, size uint) Command {
	c := newStreamCommand(OpATCInv, s)
	c.set(cmdAddr, addr)
	c.set(cmdATCSize, uint64(size))
	return c
}

// NewATCInvAll returns the commands that invalidate everything that a stream's endpoint caches,
// with and without SubstreamID. Two commands are necessary, since the SMMU ignores Global without
// SSV (§4.5.1).
func NewATCInvAll(s StreamID) [2]Command {
	all := NewATCInv(s, 0, ATCSizeAll)
	return [2]Command{all, all.WithSubstream(0).WithGlobal()}
}

// WithSubstream returns the command for a SubstreamID: it sets SSV. PREFETCH_CONFIG, PREFETCH_ADDR,
// ATC_INV and PRI_RESP have the field.
func (c Command) WithSubstream(s SubstreamID) Command {
	c.set(cmdSSV, 1)
	c.set(cmdSubstreamID, uint64(s))
	return c
}

// WithGlobal returns an ATC_INV for all SubstreamIDs (§4.5.1). The command must have a SubstreamID.
func (c Command) WithGlobal() Command {
	c.set(cmdGlobal, 1)
	return c
}

// NewPRIResp returns a PRI_RESP, which answers a Page Request Group (§4.5.2). If the group's
// requests have a SubstreamID, so must the answer: see WithSubstream.
func NewPRIResp(s StreamID, group uint16, r PRGResponse) Command {
	c := newStreamCommand(OpPRIResp, s)
	c.set(cmdPRGIndex, uint64(group))
	c.set(cmdResp, uint64(r))
	return c
}

// ResumeAction is the fate of a stalled transaction: RESUME.Ac and Ab (§4.7.1).
type ResumeAction uint8

const (
	// ResumeRAZWI completes the transaction: reads return 0, writes are ignored.
	ResumeRAZWI ResumeAction = 0b00
	// ResumeRetry translates the transaction again.
	ResumeRetry ResumeAction = 0b01
	// ResumeAbort aborts the transaction.
	ResumeAbort ResumeAction = 0b10
)

// NewResume returns a RESUME of the stalled transaction that an event reported with this STAG
// (§4.7.1).
func NewResume(s StreamID, stag uint16, a ResumeAction) Command {
	c := newStreamCommand(OpResume, s)
	c.set(cmdAc, uint64(a))
	c.set(cmdAb, uint64(a>>1))
	c.set(cmdSTAG, uint64(stag))
	return c
}

// NewStallTerm returns a STALL_TERM, which aborts all stalled transactions of a stream (§4.7.2).
func NewStallTerm(s StreamID) Command { return newStreamCommand(OpStallTerm, s) }

// MSIWrite is a message-signalled interrupt: a write of Data to Addr.
type MSIWrite struct {
	Addr uint64 // a multiple of 4; 0 for none
	Data uint32
	SH   uint8 // shareability, encoded as STE.S1CSH
	Attr uint8 // memory attributes, encoded as STE.MemAttr; 0 is Device-nGnRnE
}

// NewSync returns a SYNC that signals nothing: CMDQ_CONS shows when it is complete (§4.7.3).
func NewSync() Command { return newCommand(OpSync) }

// NewSyncIRQ returns a SYNC that signals its completion by an interrupt: by the MSI if its address
// is not 0, and by the wired interrupt if the SMMU has one (§4.7.3).
func NewSyncIRQ(m MSIWrite) Command {
	c := newCommand(OpSync)
	c.set(cmdCS, uint64(SignalIRQ))
	c.set(cmdMSH, uint64(m.SH))
	c.set(cmdMSIAttr, uint64(m.Attr))
	c.set(cmdMSIData, uint64(m.Data))
	c.set(cmdMSIAddr, m.Addr)
	return c
}

// NewSyncSEV returns a SYNC that signals its completion by an event to the processors, if the SMMU
// has IDR0.SEV (§4.7.3).
func NewSyncSEV() Command {
	c := newCommand(OpSync)
	c.set(cmdCS, uint64(SignalSEV))
	return c
}

// NewDPTIAll returns a DPTI_ALL, which invalidates all cached DPT information (§4.6.1).
func NewDPTIAll() Command { return newCommand(OpDPTIAll) }

package vsmmu

import (
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// word numbers a 32-bit register by its offset on page 0. The identification registers, at the end
// of that page, follow at wIDRegs. The indices of the event and PRI queues, on page 1, have the
// numbers of their page-0 aliases: both offsets reach one register, a choice of §6.2.2.
type word uint16

const (
	wIDRegs  word = 0x100 / 4
	numWords      = wIDRegs + numIDRegs
)

const (
	wCR0        word = smmuv3.RegCR0 / 4
	wCR0ACK     word = smmuv3.RegCR0ACK / 4
	wCR2        word = smmuv3.RegCR2 / 4
	wGBPA       word = smmuv3.RegGBPA / 4
	wIRQCtrl    word = smmuv3.RegIRQ_CTRL / 4
	wIRQCtrlAck word = smmuv3.RegIRQ_CTRLACK / 4
	wGERROR     word = smmuv3.RegGERROR / 4
	wGERRORN    word = smmuv3.RegGERRORN / 4
	wSTRTABBase word = smmuv3.RegSTRTAB_BASE / 4
	wSTRTABCfg  word = smmuv3.RegSTRTAB_BASE_CFG / 4
	wCMDQBase   word = smmuv3.RegCMDQ_BASE / 4
	wCMDQProd   word = smmuv3.RegCMDQ_PROD / 4
	wCMDQCons   word = smmuv3.RegCMDQ_CONS / 4
	wEVENTQBase word = smmuv3.RegEVENTQ_BASE / 4
	wEVENTQProd word = smmuv3.RegEVENTQ_PROD & 0xff / 4
	wEVENTQCons word = smmuv3.RegEVENTQ_CONS & 0xff / 4
	wPRIQBase   word = smmuv3.RegPRIQ_BASE / 4
	wPRIQProd   word = smmuv3.RegPRIQ_PROD & 0xff / 4
	wPRIQCons   word = smmuv3.RegPRIQ_CONS & 0xff / 4
	wPRIQIRQ2   word = smmuv3.RegPRIQ_IRQ_CFG2 / 4
)

// wordAt returns the word at an offset. ok is false where every register is RES0.
func wordAt(off uint64) (w word, ok bool) {
	switch off &^ 0xff {
	case 0:
		return word(off / 4), true
	case smmuv3.RegID_REGS &^ 0xff:
		return wIDRegs + word(off-smmuv3.RegID_REGS)/4, off >= smmuv3.RegID_REGS
	case 0x10000:
		w := word(off & 0xff / 4)
		return w, w == wEVENTQProd || w == wEVENTQCons || w == wPRIQProd || w == wPRIQCons
	}
	return 0, false
}

// registerFile holds the registers' values. Loads take no lock. A store holds the lock that guards
// the word.
type registerFile [numWords]atomic.Uint32

func (r *registerFile) get(w word) uint32    { return r[w].Load() }
func (r *registerFile) set(w word, v uint32) { r[w].Store(v) }

// get64 returns a 64-bit register. Its halves may come from two stores (§6.2).
func (r *registerFile) get64(w word) uint64 {
	return uint64(r[w].Load()) | uint64(r[w+1].Load())<<32
}

// guard has the enables that make a register read-only. The register is read-only while any of the
// bits is set in the control register or in its acknowledgement, which covers both transitions
// (§6.2).
type guard struct {
	cr0 uint32 // of CR0 and CR0ACK
	irq uint32 // of IRQ_CTRL and IRQ_CTRLACK
}

const queueEnables = smmuv3.CR0_CMDQEN | smmuv3.CR0_EVENTQEN | smmuv3.CR0_PRIQEN

var (
	whileEnabled  = guard{cr0: smmuv3.CR0_SMMUEN}
	whileQueues   = guard{cr0: queueEnables}
	whileCMDQ     = guard{cr0: smmuv3.CR0_CMDQEN}
	whileEVENTQ   = guard{cr0: smmuv3.CR0_EVENTQEN}
	whilePRIQ     = guard{cr0: smmuv3.CR0_PRIQEN}
	whileGERRIRQ  = guard{irq: smmuv3.IRQ_CTRL_GERROR_IRQEN}
	whileEventIRQ = guard{irq: smmuv3.IRQ_CTRL_EVENTQ_IRQEN}
	whilePRIIRQ   = guard{irq: smmuv3.IRQ_CTRL_PRIQ_IRQEN}
)

// register is a row of the register map: the bits that the guest may write, the condition for it,
// and its effects. Bits outside a row's mask are read-only or RES0: reserved bits are not stored
// and read as zero.
type register struct {
	offset uint64
	width  int
	mask   func(ids *smmuv3.IDRegs) uint64 // nil if all bits are read-only
	guard  guard
	// store, if not nil, returns the value to store when the guest writes v over old.
	store func(d *Device, old, v uint32) uint32
	// kick returns the work that a store makes. It is nil if a store makes none.
	kick func(ids *smmuv3.IDRegs) work
	// base is the base register of the register's queue, if the register is an index; 0 otherwise.
	base word
}

// registerMap has the registers of §6.2.1 and §6.2.2. Each row names the section of §6.3 that
// describes the register. A register whose fields have different guards has a row for each guard. A
// register without a row is RES0: the device lacks its feature.
var registerMap = []register{
	{offset: smmuv3.RegIDR0, width: 32},                                                                                             // §6.3.1
	{offset: smmuv3.RegIDR1, width: 32},                                                                                             // §6.3.2
	{offset: smmuv3.RegIDR2, width: 32},                                                                                             // §6.3.3
	{offset: smmuv3.RegIDR3, width: 32},                                                                                             // §6.3.4
	{offset: smmuv3.RegIDR4, width: 32},                                                                                             // §6.3.5
	{offset: smmuv3.RegIDR5, width: 32},                                                                                             // §6.3.6
	{offset: smmuv3.RegIIDR, width: 32},                                                                                             // §6.3.7
	{offset: smmuv3.RegAIDR, width: 32},                                                                                             // §6.3.8
	{offset: smmuv3.RegCR0, width: 32, mask: cr0Mask, store: storeCR0, kick: anyway},                                                // §6.3.9
	{offset: smmuv3.RegCR0ACK, width: 32},                                                                                           // §6.3.10
	{offset: smmuv3.RegCR1, width: 32, mask: bits(smmuv3.CR1_QUEUE_Mask), guard: whileQueues},                                       // §6.3.11
	{offset: smmuv3.RegCR1, width: 32, mask: bits(smmuv3.CR1_TABLE_Mask), guard: whileEnabled},                                      // §6.3.11
	{offset: smmuv3.RegCR2, width: 32, mask: bits(smmuv3.CR2_RECINVSID), guard: whileEnabled},                                       // §6.3.12
	{offset: smmuv3.RegSTATUSR, width: 32},                                                                                          // §6.3.13: DORMANT is RES0 without IDR0.DORMHINT
	{offset: smmuv3.RegGBPA, width: 32, mask: bits(uint64(smmuv3.GBPA_Mask)), store: storeGBPA, kick: anyway},                       // §6.3.14
	{offset: smmuv3.RegIRQ_CTRL, width: 32, mask: irqCtrlMask, store: storeIRQCtrl},                                                 // §6.3.16
	{offset: smmuv3.RegIRQ_CTRLACK, width: 32},                                                                                      // §6.3.18
	{offset: smmuv3.RegGERROR, width: 32},                                                                                           // §6.3.19
	{offset: smmuv3.RegGERRORN, width: 32, mask: gerrorMask, store: storeGERRORN, kick: anyway},                                     // §6.3.20
	{offset: smmuv3.RegGERROR_IRQ_CFG0, width: 64, mask: ifMSI(smmuv3.IRQ_CFG0_ADDR), guard: whileGERRIRQ},                          // §6.3.21
	{offset: smmuv3.RegGERROR_IRQ_CFG1, width: 32, mask: ifMSI(0xffffffff), guard: whileGERRIRQ},                                    // §6.3.22
	{offset: smmuv3.RegGERROR_IRQ_CFG2, width: 32, mask: ifMSI(0x3f), guard: whileGERRIRQ},                                          // §6.3.23
	{offset: smmuv3.RegSTRTAB_BASE, width: 64, mask: bits(smmuv3.STRTAB_BASE_Mask), guard: whileEnabled},                            // §6.3.24
	{offset: smmuv3.RegSTRTAB_BASE_CFG, width: 32, mask: strtabCfgMask, guard: whileEnabled},                                        // §6.3.25
	{offset: smmuv3.RegCMDQ_BASE, width: 64, mask: bits(smmuv3.QUEUE_BASE_Mask), guard: whileCMDQ},                                  // §6.3.26
	{offset: smmuv3.RegCMDQ_PROD, width: 32, mask: indexMask(smmuv3.CMDQS), kick: forCommands, base: wCMDQBase},                     // §6.3.27
	{offset: smmuv3.RegCMDQ_CONS, width: 32, mask: indexMask(smmuv3.CMDQS), guard: whileCMDQ, base: wCMDQBase},                      // §6.3.28: ERR ignores writes
	{offset: smmuv3.RegEVENTQ_BASE, width: 64, mask: bits(smmuv3.QUEUE_BASE_Mask), guard: whileEVENTQ},                              // §6.3.29
	{offset: smmuv3.RegEVENTQ_IRQ_CFG0, width: 64, mask: ifMSI(smmuv3.IRQ_CFG0_ADDR), guard: whileEventIRQ},                         // §6.3.30
	{offset: smmuv3.RegEVENTQ_IRQ_CFG1, width: 32, mask: ifMSI(0xffffffff), guard: whileEventIRQ},                                   // §6.3.31
	{offset: smmuv3.RegEVENTQ_IRQ_CFG2, width: 32, mask: ifMSI(0x3f), guard: whileEventIRQ},                                         // §6.3.32
	{offset: smmuv3.RegEVENTQ_PROD, width: 32, mask: overflowAnd(indexMask(smmuv3.EVENTQS)), guard: whileEVENTQ, base: wEVENTQBase}, // §6.3.95
	{offset: smmuv3.RegEVENTQ_CONS, width: 32, mask: overflowAnd(indexMask(smmuv3.EVENTQS)), kick: ifStalls, base: wEVENTQBase},     // §6.3.96
	{offset: smmuv3.RegPRIQ_BASE, width: 64, mask: ifPRI(bits(smmuv3.QUEUE_BASE_Mask)), guard: whilePRIQ},                           // §6.3.33
	{offset: smmuv3.RegPRIQ_IRQ_CFG0, width: 64, mask: ifPRI(ifMSI(smmuv3.IRQ_CFG0_ADDR)), guard: whilePRIIRQ},                      // §6.3.34
	{offset: smmuv3.RegPRIQ_IRQ_CFG1, width: 32, mask: ifPRI(ifMSI(0xffffffff)), guard: whilePRIIRQ},                                // §6.3.35
	{offset: smmuv3.RegPRIQ_IRQ_CFG2, width: 32, mask: ifPRI(ifMSI(smmuv3.PRIQ_IRQ_CFG2_LO | 0x3f)), guard: whilePRIIRQ},            // §6.3.36
	{offset: smmuv3.RegPRIQ_PROD, width: 32, mask: ifPRI(overflowAnd(indexMask(smmuv3.PRIQS))), guard: whilePRIQ, base: wPRIQBase},  // §6.3.97
	{offset: smmuv3.RegPRIQ_CONS, width: 32, mask: ifPRI(overflowAnd(indexMask(smmuv3.PRIQS))), base: wPRIQBase},                    // §6.3.98
}

func bits(mask uint64) func(*smmuv3.IDRegs) uint64 {
	return func(*smmuv3.IDRegs) uint64 { return mask }
}

// These are values of register.kick. Room in the event queue makes work only if a stalled
// transaction may wait for it.
func forCommands(*smmuv3.IDRegs) work { return takePart }
func anyway(*smmuv3.IDRegs) work      { return handOver }

func ifStalls(ids *smmuv3.IDRegs) work {
	if !stallsShown(ids) {
		return noWork
	}
	return handOver
}

// ifMSI makes a register RES0 on an SMMU without MSIs.
func ifMSI(mask uint64) func(*smmuv3.IDRegs) uint64 {
	return func(ids *smmuv3.IDRegs) uint64 {
		if !ids.Has(smmuv3.MSI) {
			return 0
		}
		return mask
	}
}

// ifPRI makes a register RES0 on an SMMU without a PRI queue.
func ifPRI(mask func(*smmuv3.IDRegs) uint64) func(*smmuv3.IDRegs) uint64 {
	return func(ids *smmuv3.IDRegs) uint64 {
		if !ids.Has(smmuv3.PRI) {
			return 0
		}
		return mask(ids)
	}
}

// indexMask returns the bits of an index and its wrap bit in a queue of the greatest size. The bits
// above are RES0.
func indexMask(size smmuv3.IDField) func(*smmuv3.IDRegs) uint64 {
	return func(ids *smmuv3.IDRegs) uint64 { return 1<<(ids.Get(size)+1) - 1 }
}

func overflowAnd(mask func(*smmuv3.IDRegs) uint64) func(*smmuv3.IDRegs) uint64 {
	return func(ids *smmuv3.IDRegs) uint64 { return smmuv3.OverflowFlag | mask(ids) }
}

func cr0Mask(ids *smmuv3.IDRegs) uint64 {
	m := uint64(smmuv3.CR0_SMMUEN | smmuv3.CR0_EVENTQEN | smmuv3.CR0_CMDQEN)
	if ids.Has(smmuv3.ATS) {
		m |= smmuv3.CR0_ATSCHK
	}
	if ids.Has(smmuv3.PRI) {
		m |= smmuv3.CR0_PRIQEN
	}
	return m
}

func irqCtrlMask(ids *smmuv3.IDRegs) uint64 {
	m := uint64(smmuv3.IRQ_CTRL_GERROR_IRQEN | smmuv3.IRQ_CTRL_EVENTQ_IRQEN)
	if ids.Has(smmuv3.PRI) {
		m |= smmuv3.IRQ_CTRL_PRIQ_IRQEN
	}
	return m
}

// gerrorMask leaves out errors of features that the SMMU lacks: they are RES0, so a guest cannot
// make them look active (§6.3.19).
func gerrorMask(ids *smmuv3.IDRegs) uint64 {
	m := uint64(smmuv3.GERROR_CMDQ_ERR | smmuv3.GERROR_EVENTQ_ABT_ERR | smmuv3.GERROR_SFM_ERR)
	if ids.Has(smmuv3.MSI) {
		m |= smmuv3.GERROR_MSI_CMDQ_ABT_ERR | smmuv3.GERROR_MSI_EVENTQ_ABT_ERR | smmuv3.GERROR_MSI_GERROR_ABT_ERR
	}
	if ids.Has(smmuv3.PRI) {
		m |= smmuv3.GERROR_PRIQ_ABT_ERR
		if ids.Has(smmuv3.MSI) {
			m |= smmuv3.GERROR_MSI_PRIQ_ABT_ERR
		}
	}
	return m
}

// strtabCfgMask leaves out FMT and SPLIT on an SMMU with linear tables only: they are RES0.
func strtabCfgMask(ids *smmuv3.IDRegs) uint64 {
	if !ids.Has(smmuv3.STLevel) {
		return smmuv3.STRTAB_BASE_CFG_LOG2SIZE
	}
	return smmuv3.STRTAB_BASE_CFG_Mask
}

// access has the rules for the guest's stores to a word: its rows of the register map, for this
// SMMU.
type access struct {
	parts [2]struct {
		mask  uint32
		guard guard
	}
	store func(d *Device, old, v uint32) uint32
	// plain is set if the word has neither a guard nor an effect, and the guest writes all its
	// bits: its new value depends only on the store. Guests store to these words most often.
	plain bool
	kick  work
	base  word    // of an index: the base register of its queue, or 0
	index [2]word // of the low word of a queue's base register: the indices of the queue, or 0
}

// accesses returns the register map by word.
func accesses(ids *smmuv3.IDRegs) *[numWords]access {
	var all [numWords]access
	for _, r := range registerMap {
		if r.mask == nil {
			continue
		}
		mask := r.mask(ids)
		for half := range r.width / 32 {
			a := &all[r.offset&0xff/4+uint64(half)]
			part := &a.parts[0]
			if part.mask != 0 {
				part = &a.parts[1]
			}
			part.mask, part.guard = uint32(mask>>(32*half)), r.guard
			a.store = r.store
			if r.kick != nil {
				a.kick = r.kick(ids)
			}
			a.plain = a.store == nil && a.parts[0].guard == guard{} && a.parts[1].mask == 0
			a.base = r.base
		}
	}
	for w := range all {
		if base := all[w].base; base != 0 {
			index := &all[base].index
			index[0], index[1] = index[1], word(w)
		}
	}
	return &all
}

// writable returns the bits of a word that a store may change now.
func (d *Device) writable(a *access) uint32 {
	var m uint32
	cr0 := d.regs.get(wCR0) | d.regs.get(wCR0ACK)
	irq := d.regs.get(wIRQCtrl) | d.regs.get(wIRQCtrlAck)
	for _, p := range a.parts {
		if cr0&p.guard.cr0 == 0 && irq&p.guard.irq == 0 {
			m |= p.mask
		}
	}
	return m
}

// Load returns size bytes of the registers at an offset from the SMMU's base, below
// smmuv3.RegisterSpace. It never waits.
// An aligned access of 4 bytes reads a register, or half of a 64-bit one. An aligned access of 8
// bytes reads a 64-bit register or a pair. Any other access reads zero, a choice of §6.2.
func (d *Device) Load(off uint64, size int) uint64 {
	switch {
	case size == 4 && off&3 == 0:
		return uint64(d.load(off))
	case size == 8 && off&7 == 0:
		return uint64(d.load(off)) | uint64(d.load(off+4))<<32
	}
	return 0
}

func (d *Device) load(off uint64) uint32 {
	if w, ok := wordAt(off); ok {
		return d.regs.get(w)
	}
	return 0
}

// Store writes the low size bytes of v to the registers at an offset from the SMMU's base. It
// accepts the same accesses as Load, and ignores any other. Of a pair, it writes the register at
// the lower address first.
//
// A store to CMDQ_PROD executes a bounded part of the commands before it returns, and leaves the
// rest to a worker: see Device.
func (d *Device) Store(off uint64, size int, v uint64) {
	d.enter("Store")
	w := noWork
	switch {
	case size == 4 && off&3 == 0:
		w = d.store(off, uint32(v))
	case size == 8 && off&7 == 0:
		w = d.store(off, uint32(v))
		w = max(w, d.store(off+4, uint32(v>>32)))
	}
	if w != noWork {
		d.kick(w)
	}
}

func (d *Device) store(off uint64, v uint32) work {
	w, ok := wordAt(off)
	if !ok {
		return noWork
	}
	a := &d.access[w]
	if a.plain {
		return d.storePlain(w, a, v)
	}
	d.regMu.Lock()
	defer d.regMu.Unlock()
	m := d.writable(a)
	if m == 0 || d.sealed.Load() {
		return noWork
	}
	old := d.regs.get(w)
	v = old&^m | v&m
	if a.store != nil {
		v = a.store(d, old, v)
	}
	if a.base != 0 {
		v &= d.indexBits(a.base)
	}
	d.regs.set(w, v)
	for _, i := range a.index {
		if i != 0 {
			d.trimIndex(i, w)
		}
	}
	return a.kick
}

// indexBits returns the bits of an index register that do not read as zero: the register's other
// fields, and as many bits of index and wrap as LOG2SIZE in the queue's base register selects
// (§6.3.27, §6.3.28, §6.3.95 to §6.3.98).
func (d *Device) indexBits(base word) uint32 {
	log2 := d.regs.get(base) & queueLog2Size
	return uint32(2<<log2-1) | smmuv3.OverflowFlag | smmuv3.CMDQ_CONS_ERR
}

// queueLog2Size is LOG2SIZE of CMDQ_BASE, EVENTQ_BASE and PRIQ_BASE (§6.3.26).
const queueLog2Size = 0x1f

// trimIndex clears the bits of an index register that its queue does not use.
func (d *Device) trimIndex(w, base word) {
	if bits := d.indexBits(base); d.regs.get(w)&^bits != 0 {
		d.regs[w].And(bits)
	}
}

// storePlain stores to a plain word. It takes no lock: the value depends only on the store.
func (d *Device) storePlain(w word, a *access, v uint32) work {
	v &= a.parts[0].mask
	if a.base == 0 {
		d.regs.set(w, v)
	} else {
		bits := d.indexBits(a.base)
		d.regs.set(w, v&bits)
		if d.indexBits(a.base) != bits { // LOG2SIZE has changed in between
			d.trimIndex(w, a.base)
		}
	}
	if d.sealed.Load() {
		d.regs.set(w, 0) // seal may have cleared the word before the store
	}
	return a.kick
}

// storeCR0 keeps the fields whose last change is not acknowledged yet. SMMUv3.2 permits no other
// choice of §6.3.9.
func storeCR0(d *Device, old, v uint32) uint32 {
	moving := old ^ d.regs.get(wCR0ACK)
	return old&moving | v&^moving
}

// storeGBPA ignores a store that does not follow the update procedure (§6.3.14.1).
func storeGBPA(_ *Device, old, v uint32) uint32 {
	if old&uint32(smmuv3.GBPA_Update) != 0 || v&uint32(smmuv3.GBPA_Update) == 0 {
		return old
	}
	return v
}

// numIDRegs is the number of CoreSight identification registers from RegID_REGS on: PIDR4 to PIDR7,
// PIDR0 to PIDR3, CIDR0 to CIDR3 (§6.3.170).
const numIDRegs = 12

// identification returns the values of the identification registers. They name the same part as
// IIDR.
func identification(ids *smmuv3.IDRegs) [numIDRegs]uint32 {
	part, revision := ids.Get(smmuv3.ProductID), ids.Get(smmuv3.Variant)
	designer := ids.Get(smmuv3.Implementer) // continuation code [11:8], identity [6:0]
	return [numIDRegs]uint32{
		0: designer >> 8,
		4: part & 0xff,
		5: designer&0xf<<4 | part>>8,
		6: revision<<4 | 1<<3 | designer>>4&0x7,
		7: ids.Get(smmuv3.Revision) << 4,
		8: 0x0d, 9: 0xf0, 10: 0x05, 11: 0xb1,
	}
}

// resetValues returns the registers' values after reset (§3.11). UNKNOWN values are zero.
func resetValues(ids *smmuv3.IDRegs, gbpa smmuv3.GBPA) *[numWords]uint32 {
	var v [numWords]uint32
	copy(v[smmuv3.RegIDR0/4:], ids.IDR[:])
	v[smmuv3.RegIIDR/4] = ids.IIDR
	v[smmuv3.RegAIDR/4] = ids.AIDR
	v[wGBPA] = uint32(gbpa)
	id := identification(ids)
	copy(v[wIDRegs:], id[:])
	return &v
}

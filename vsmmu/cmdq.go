package vsmmu

import (
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// runMax bounds the commands that are fetched at once: at most 4 KiB.
const runMax = 256

// consume executes commands (§3.5, Chapter 4) until the queue is empty or stopped, or the budget is
// used up. It returns false if it left commands that could be executed.
func (d *Device) consume(b *budget) (done bool) {
	for {
		cons, n := d.waiting()
		if n == 0 {
			return true
		}
		if b.spent() {
			return false
		}
		n = min(n, d.cmdq.Contiguous(cons), runMax)
		if !b.spend(min(costHost*d.filled(n), costAhead)) {
			return false
		}
		used, code := d.run(cons, n, b)
		cons = d.cmdq.Next(cons, used)
		if code != smmuv3.CERROR_NONE {
			d.stop(cons, code)
			return true
		}
		if d.regs.get(wCMDQCons) != uint32(cons) { // a SYNC may have stored it
			d.regs.set(wCMDQCons, uint32(cons))
		}
		if d.regs.get(wCMDQProd) == uint32(cons) {
			return true // the usual case, which needs no second look at all registers
		}
	}
}

// waiting returns the number of commands to consume, and the index of the first. The number is 0
// while the queue is disabled or an error is active, and for invalid indices (§3.5.1: doing nothing
// is one of the choices).
func (d *Device) waiting() (cons smmuv3.Index, n uint32) {
	if d.regs.get(wCR0)&d.regs.get(wCR0ACK)&smmuv3.CR0_CMDQEN == 0 ||
		d.active(smmuv3.GERROR_CMDQ_ERR) || d.failed.Load() {
		return 0, 0
	}
	prod := smmuv3.Index(d.regs.get(wCMDQProd)) & d.cmdq.Mask()
	cons = smmuv3.Index(d.regs.get(wCMDQCons)) & d.cmdq.Mask()
	n, ok := d.cmdq.Len(prod, cons)
	if !ok {
		return cons, 0
	}
	return cons, n
}

// fetch copies up to n commands from cons on into the engine's own array, which the guest cannot
// change. If that aborts, fetch tries half as many, since commands before the abort are consumed
// (§7.1). It returns no words if the fetch of the first command aborts.
func (d *Device) fetch(cons smmuv3.Index, n uint32) []uint64 {
	for ; n > 0; n /= 2 {
		words := d.fetched[:2*n]
		if d.mem.Read(words, guestmem.GPA(d.cmdq.Entry(cons))) == nil {
			return words
		}
	}
	return nil
}

// run executes up to n commands from cons on. It returns the number of consumed commands, and the
// error that stopped it.
func (d *Device) run(cons smmuv3.Index, n uint32, b *budget) (used uint32, code smmuv3.CmdqErr) {
	words := d.fetch(cons, n)
	if len(words) == 0 {
		return 0, smmuv3.CERROR_ABT
	}
	for ; len(words) != 0 && b.spend(1); words = words[2:] {
		c := (*smmuv3.Command)(words)
		code, done := d.execute(c, cons+smmuv3.Index(used), b)
		if !done || d.failed.Load() {
			break // the command was not executed and stays in the queue
		}
		d.counts.commands[c.Opcode()]++
		d.trace.command(c, code)
		if code != smmuv3.CERROR_NONE {
			return used, code
		}
		used++
	}
	return used, smmuv3.CERROR_NONE
}

// stop records a command error. It stores CONS and the reason first: a guest that sees the error
// sees them, too (§7.1).
func (d *Device) stop(cons smmuv3.Index, code smmuv3.CmdqErr) {
	d.counts.stops[code&3]++
	d.regs.set(wCMDQCons, uint32(cons)|uint32(code)<<smmuv3.CMDQ_CONS_ERR_Shift)
	d.activate(smmuv3.GERROR_CMDQ_ERR)
}

// execute executes one command, at an index of the queue. done is false if the budget does not
// cover the command's cost beyond 1.
func (d *Device) execute(c *smmuv3.Command, at smmuv3.Index, b *budget) (code smmuv3.CmdqErr, done bool) {
	// An illegal command is an error even where a legal one would be ignored (§4.1.3).
	if !d.commands.Plain(c) && d.commands.Illegal(c) != nil {
		return smmuv3.CERROR_ILL, true
	}
	switch c.Opcode() {
	case smmuv3.OpTLBINHAll, smmuv3.OpTLBINHASID, smmuv3.OpTLBINSNHAll, smmuv3.OpTLBIS12VMAll:
		d.batchAll(c[0], c[1])
	case smmuv3.OpTLBINHVA, smmuv3.OpTLBINHVAA, smmuv3.OpTLBIS2IPA:
		// Without IDR3.RIL the range fields are RES0, but a host with RIL would interpret them.
		d.batchAll(d.commands.Ranged(c))
	case smmuv3.OpCfgiCD, smmuv3.OpCfgiCDAll:
		if st := d.streams.Get(c.StreamID()); st != nil {
			d.batch(hostOf(st), c[0], c[1])
		}
	case smmuv3.OpATCInv:
		if st := d.streams.Get(c.StreamID()); st != nil && usesATS(st) {
			hostOf(st).atc = true
			d.batch(hostOf(st), c[0], c[1])
		}
	case smmuv3.OpSync:
		return d.sync(c, at, b)
	case smmuv3.OpCfgiSTE:
		return smmuv3.CERROR_NONE, d.cfgi(c.StreamID(), c.StreamID(), b)
	case smmuv3.OpCfgiSTERange:
		first, last := c.StreamRange()
		return smmuv3.CERROR_NONE, d.cfgi(first, last, b)
	case smmuv3.OpPRIResp, smmuv3.OpResume, smmuv3.OpStallTerm:
		if !b.spend(costHost) {
			return smmuv3.CERROR_NONE, false
		}
		d.answer(c)
	}
	// The other legal commands do nothing here: prefetches are hints (§4.2).
	return smmuv3.CERROR_NONE, true
}

// answer executes a command for a stalled transaction or a page request that a host holds.
func (d *Device) answer(c *smmuv3.Command) {
	switch c.Opcode() {
	case smmuv3.OpPRIResp:
		d.priResp(c)
	case smmuv3.OpResume:
		d.resumeStalled(c)
	case smmuv3.OpStallTerm:
		if st := d.streams.Get(c.StreamID()); st != nil {
			d.terminateStalled(st)
		}
	}
}

// cfgi executes CFGI_STE for the attached streams from first to last. done is false if the budget
// does not cover that.
func (d *Device) cfgi(first, last smmuv3.StreamID, b *budget) (done bool) {
	streams := d.streams.Range(first, last)
	cost := costHost * len(streams)
	if d.ats {
		cost = costHost * d.refreshCalls(streams)
	}
	if cost != 0 && d.watch != nil {
		cost += len(d.streams.All()) // notifyWatch visits each stream
	}
	switch {
	case cost == 0:
		return true
	case !b.spend(cost):
		return false
	}
	for _, st := range streams {
		if kept, _ := d.refresh(st); kept && d.stage1 {
			// CFGI_STE invalidates cached CDs even if the STE has not changed (§4.3.1). Without
			// stage 1 neither CDs nor CFGI_CD_ALL exist.
			d.batch(hostOf(st), smmuv3.OpCfgiCDAll.StreamWord(st.ID), 0)
		}
	}
	d.notifyWatch()
	return true
}

// sync executes CMD_SYNC (§4.7.3): when it is consumed, all earlier commands have taken effect. If
// an earlier ATC_INV timed out, the SYNC fails and is not consumed (§3.9.1.4). A retry of the SYNC
// does not wait for that ATC_INV again.
func (d *Device) sync(c *smmuv3.Command, at smmuv3.Index, b *budget) (code smmuv3.CmdqErr, done bool) {
	signal, waits := c.CS() == smmuv3.SignalIRQ, d.owed
	if !signal && !waits && !d.atcTimeout {
		return smmuv3.CERROR_NONE, true // nothing to wait for, and no interrupt
	}
	cost := 0
	if signal {
		cost = costInterrupt
	}
	if waits {
		cost += costHost * d.due()
	}
	if !b.spend(cost) {
		return smmuv3.CERROR_NONE, false
	}
	if waits {
		d.flush()
	}
	switch {
	case d.failed.Load():
		return smmuv3.CERROR_NONE, false
	case d.atcTimeout:
		d.atcTimeout = false
		return smmuv3.CERROR_ATC_INV_SYNC, true
	}
	if signal || waits {
		// CONS passes the SYNC before the interrupt (§3.18). A guest that polls CONS sees it now,
		// not at the end of the run.
		d.regs.set(wCMDQCons, uint32(d.cmdq.Next(at, 1)))
		if signal {
			d.raiseSync(c)
		}
	}
	return smmuv3.CERROR_NONE, true
}

package vsmmutest

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// CommandError is the error of a command that stopped the queue (§7.1). Guest.SkipCommand restarts
// the queue.
type CommandError struct {
	Code    smmuv3.CmdqErr
	Command smmuv3.Command // the command at CMDQ_CONS.RD
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("vsmmutest: run commands: %v: %v", e.Command, e.Code)
}

// indexMask is the index and the wrap bit of the largest queue (§6.3.28).
const indexMask = 1<<(smmuv3.MaxQueueShift+1) - 1

// ActiveErrors returns the global errors that are active: the bits in which GERROR and GERRORN
// differ (§6.3.19).
func (g *Guest) ActiveErrors() uint32 {
	return (g.r32(smmuv3.RegGERROR) ^ g.r32(smmuv3.RegGERRORN)) & smmuv3.GERROR_Mask
}

// AcknowledgeErrors acknowledges all global errors.
func (g *Guest) AcknowledgeErrors() { g.w32(smmuv3.RegGERRORN, g.r32(smmuv3.RegGERROR)) }

// Place writes commands to the queue and does not move CMDQ_PROD: the SMMU does not see them yet.
// It fails if they do not fit. The result is the CMDQ_PROD that submits them.
func (g *Guest) Place(cmds ...smmuv3.Command) (prod uint32, err error) {
	if g == nil || g.CommandQueue == (Queue{}) {
		return 0, errors.New("vsmmutest: submit commands: there is no command queue (call Enable first)")
	}
	q := g.CommandQueue.ring(smmuv3.CommandSize)
	at, cons := smmuv3.Index(g.r32(smmuv3.RegCMDQ_PROD)), smmuv3.Index(g.r32(smmuv3.RegCMDQ_CONS))
	held, ok := q.Len(at, cons)
	if !ok {
		return 0, fmt.Errorf("vsmmutest: submit commands: CMDQ_PROD %#x with CMDQ_CONS %#x in a queue of 2^%d commands",
			at, cons, q.Log2Size)
	}
	if free := 1<<q.Log2Size - int(held); len(cmds) > free {
		return 0, fmt.Errorf("vsmmutest: submit %d commands: room for %d", len(cmds), free)
	}
	for _, c := range cmds {
		if err := g.RAM.Store(guestmem.GPA(q.Entry(at)), c[:]...); err != nil {
			return 0, err
		}
		at = q.Next(at, 1)
	}
	return uint32(at), nil
}

// Submit places commands and moves CMDQ_PROD. It does not wait for the SMMU. The result is the new
// CMDQ_PROD.
func (g *Guest) Submit(cmds ...smmuv3.Command) (prod uint32, err error) {
	prod, err = g.Place(cmds...)
	if err == nil {
		g.w32(smmuv3.RegCMDQ_PROD, prod)
	}
	return prod, err
}

// Wait waits until the SMMU has consumed the commands before an index, as Submit returns it. It
// returns a *CommandError if a command stops the queue.
func (g *Guest) Wait(prod uint32) error {
	if err := g.connected(); err != nil {
		return fmt.Errorf("vsmmutest: run commands: %w", err)
	}
	q := g.CommandQueue.ring(smmuv3.CommandSize)
	var active uint32
	err := g.wait(fmt.Sprintf("vsmmutest: run commands: CMDQ_CONS to reach %#x", prod), func() bool {
		active = g.ActiveErrors()
		return g.r32(smmuv3.RegCMDQ_CONS)&indexMask == prod ||
			active&(smmuv3.GERROR_CMDQ_ERR|smmuv3.GERROR_SFM_ERR) != 0
	})
	cons := g.r32(smmuv3.RegCMDQ_CONS)
	switch {
	case err != nil:
		return err
	case cons&indexMask == prod:
		return nil
	case active&smmuv3.GERROR_CMDQ_ERR == 0:
		return fmt.Errorf("vsmmutest: run commands: the SMMU is in Service Failure Mode (GERROR.SFM_ERR)")
	}
	e := &CommandError{Code: smmuv3.CmdqErr(cons >> smmuv3.CMDQ_CONS_ERR_Shift & 0x7f)}
	return firstError(g.RAM.loadWords(guestmem.GPA(q.Entry(smmuv3.Index(cons))), e.Command[:]), e)
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// Run submits commands and a CMD_SYNC and waits until the SMMU consumes them. Their effects are
// then complete. If the queue cannot hold all commands, Run submits them in batches.
func (g *Guest) Run(cmds ...smmuv3.Command) error {
	cmds = append(cmds[:len(cmds):len(cmds)], smmuv3.NewSync())
	for most := 1 << g.CommandQueue.Log2Size; len(cmds) > 0; {
		n := min(len(cmds), most)
		prod, err := g.Submit(cmds[:n]...)
		if err != nil {
			return err
		}
		if err := g.Wait(prod); err != nil {
			return err
		}
		cmds = cmds[n:]
	}
	return nil
}

// Sync runs a CMD_SYNC alone.
func (g *Guest) Sync() error { return g.Run() }

// SkipCommand replaces the command that stopped the queue by a CMD_SYNC and acknowledges the error,
// as Linux's driver does.
func (g *Guest) SkipCommand() error {
	if err := g.connected(); err != nil {
		return fmt.Errorf("vsmmutest: skip a command: %w", err)
	}
	q := g.CommandQueue.ring(smmuv3.CommandSize)
	sync := smmuv3.NewSync()
	if err := g.RAM.Store(guestmem.GPA(q.Entry(smmuv3.Index(g.r32(smmuv3.RegCMDQ_CONS)))), sync[:]...); err != nil {
		return err
	}
	g.w32(smmuv3.RegGERRORN, g.r32(smmuv3.RegGERRORN)^g.ActiveErrors()&smmuv3.GERROR_CMDQ_ERR)
	return nil
}

// take consumes an entry of a queue that the SMMU writes, if there is one.
func (g *Guest) take(queue Queue, entrySize, prodReg, consReg uint64, entry []uint64) (ok bool, err error) {
	if err := g.connected(); err != nil {
		return false, err
	}
	q := queue.ring(entrySize)
	prod, cons := g.r32(prodReg), g.r32(consReg)
	n, ok := q.Len(smmuv3.Index(prod), smmuv3.Index(cons))
	if !ok {
		return false, fmt.Errorf("PROD %#x with CONS %#x in a queue of 2^%d entries", prod, cons, q.Log2Size)
	}
	if (prod^cons)&smmuv3.OverflowFlag != 0 {
		g.lost = true
	}
	if n == 0 {
		// The guest has consumed all records of the queue, so it can acknowledge the overflow.
		if (prod^cons)&smmuv3.OverflowFlag != 0 {
			g.w32(consReg, cons^smmuv3.OverflowFlag)
		}
		return false, nil
	}
	if err := g.RAM.loadWords(guestmem.GPA(q.Entry(smmuv3.Index(cons))), entry); err != nil {
		return false, err
	}
	next := uint32(q.Next(smmuv3.Index(cons), 1))
	flag := cons & smmuv3.OverflowFlag
	if n == 1 {
		flag = prod & smmuv3.OverflowFlag
	}
	g.w32(consReg, flag|next)
	return true, nil
}

// Event takes the oldest record from the event queue. ok is false if the queue is empty. An
// overflow is acknowledged when the queue becomes empty.
func (g *Guest) Event() (e smmuv3.Event, ok bool, err error) {
	ok, err = g.take(g.EventQueue, smmuv3.EventSize, smmuv3.RegEVENTQ_PROD, smmuv3.RegEVENTQ_CONS, e[:])
	if err != nil {
		err = fmt.Errorf("vsmmutest: read an event: %w", err)
	}
	return e, ok, err
}

// Events takes all records that are in the event queue.
func (g *Guest) Events() (all []smmuv3.Event, err error) {
	for {
		e, ok, err := g.Event()
		if err != nil || !ok {
			return all, err
		}
		all = append(all, e)
	}
}

// WaitEvent waits for a record and takes it. It fails with ErrTimeout if none arrives.
func (g *Guest) WaitEvent() (e smmuv3.Event, err error) {
	waited := g.wait("vsmmutest: wait for an event", func() (ok bool) {
		e, ok, err = g.Event()
		return ok || err != nil
	})
	return e, firstError(err, waited)
}

// Overflowed reports whether the event queue has overflowed, and lost records, since the last call.
// The guest detects an overflow when it reads the queue.
func (g *Guest) Overflowed() bool {
	lost := g.lost
	g.lost = false
	return lost
}

// PageRequest takes the oldest record from the PRI queue. ok is false if the queue is empty.
func (g *Guest) PageRequest() (r smmuv3.PageRequest, ok bool, err error) {
	ok, err = g.take(g.PageRequestQueue, smmuv3.PageReqSize, smmuv3.RegPRIQ_PROD, smmuv3.RegPRIQ_CONS, r[:])
	if err != nil {
		err = fmt.Errorf("vsmmutest: read a page request: %w", err)
	}
	return r, ok, err
}

// WaitPageRequest waits for a page request and takes it. It fails with ErrTimeout if none arrives.
func (g *Guest) WaitPageRequest() (r smmuv3.PageRequest, err error) {
	waited := g.wait("vsmmutest: wait for a page request", func() (ok bool) {
		r, ok, err = g.PageRequest()
		return ok || err != nil
	})
	return r, firstError(err, waited)
}

// Respond answers the group of a page request by CMD_PRI_RESP (§4.5.2).
func (g *Guest) Respond(r smmuv3.PageRequest, how smmuv3.PRGResponse) error {
	return g.Run(priResp(r, how))
}

package edu

import (
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// command is a value of the register Command with its arguments.
type command struct {
	word    uint64
	address uint64
	attrs   regs.Attrs
	moves   *transfer
}

func (c *command) has(bit uint64) bool { return c.word&bit != 0 }

// commands execute the commands, each to the number of bytes that it moved.
var commands = map[regs.Op]func(*Function, *life, *command) (int, error){
	regs.OpTranslate:       (*Function).translate,
	regs.OpReadTranslated:  (*Function).moveTranslated,
	regs.OpWriteTranslated: (*Function).moveTranslated,
	regs.OpRequestPage:     (*Function).requestPage,
	regs.OpStopMarker:      (*Function).stopMarker,
	regs.OpClearATC:        (*Function).clearATC,
}

func (f *Function) storeCommand(v uint64) (rest func()) {
	execute := commands[regs.Op(v)]
	if f.values.busy || execute == nil {
		return nil
	}
	f.values.command = v
	c := &command{v, f.values.address, f.values.attrs, f.transfer(regs.Op(v) == regs.OpWriteTranslated)}
	return f.start(func(l *life) regs.Outcome {
		n, err := execute(f, l, c)
		return outcome(err, n)
	}, nil)
}

func (f *Function) translate(l *life, c *command) (_ int, err error) {
	var t soft.Translation
	err = f.transact(l, c.attrs|regs.ByATS, func(port soft.Port) (err error) {
		t, err = port.Translate(c.address, c.has(regs.OpWrite))
		return err
	})
	if err != nil {
		return 0, err
	}
	v := uint64(0)
	if t.Read || t.Write {
		v = (uint64(t.Addr) + (c.address - t.IOVA)) &^ (pageSize - 1)
	}
	for _, p := range []struct {
		granted bool
		bit     uint64
	}{{t.Read, regs.MayRead}, {t.Write, regs.MayWrite}, {t.Execute, regs.MayExecute}} {
		if p.granted {
			v |= p.bit
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.values.translatedAddr, f.values.translatedSize = v, t.Len
	return 0, nil
}

func (f *Function) moveTranslated(l *life, c *command) (int, error) {
	t := c.moves
	if !t.valid() {
		return 0, errInvalid
	}
	p := make([]byte, t.n)
	if t.toMemory {
		f.copyBuffer(p, t.at, false)
	}
	if err := f.transact(l, c.attrs|regs.ByATS, func(soft.Port) error {
		return t.translated(guestmem.GPA(c.address), p)
	}); err != nil {
		return 0, err
	}
	if !t.toMemory {
		f.copyBuffer(p, t.at, true)
	}
	return len(p), nil
}

func (f *Function) requestPage(l *life, c *command) (int, error) {
	access := smmuv3.PageAccess{Read: c.has(regs.OpRead), Write: c.has(regs.OpWrite)}
	page := c.address &^ (pageSize - 1)
	_, err := f.request(l, c.attrs, smmuv3.NewPageRequest(0, regs.Group(c.word), page, access, c.has(regs.OpLast)))
	return 0, err
}

func (f *Function) stopMarker(l *life, c *command) (int, error) {
	if !c.attrs.Has(regs.HasPASID) {
		return 0, errInvalid
	}
	_, err := f.request(l, c.attrs, smmuv3.NewStopMarker(0, smmuv3.SubstreamID(c.attrs.PASID())))
	return 0, err
}

func (f *Function) clearATC(*life, *command) (int, error) {
	f.atc.clear()
	return 0, nil
}

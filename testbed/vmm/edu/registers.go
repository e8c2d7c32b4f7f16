package edu

import (
	"math"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// register is a register of the function. mu is held in both calls. store is nil if the register is
// read-only.
type register struct {
	load  func(*Function) uint64
	store func(*Function, uint64) (rest func())
}

// accessible reports whether a register takes an access of size bytes. Those below DMASource have
// 32 bits.
func accessible(off uint64, size int) bool {
	return size == 4 || size == 8 && off >= regs.DMASource
}

var registers = map[uint64]register{
	regs.ID:              {load: func(*Function) uint64 { return regs.IDValue }},
	regs.Liveness:        {func(f *Function) uint64 { return uint64(f.values.liveness) }, (*Function).storeLiveness},
	regs.Factorial:       {func(f *Function) uint64 { return uint64(f.values.factorial) }, (*Function).storeFactorial},
	regs.Status:          {func(f *Function) uint64 { return uint64(f.values.status) }, (*Function).storeStatus},
	regs.InterruptStatus: {load: func(f *Function) uint64 { return uint64(f.irq.status) }},
	regs.InterruptRaise:  action(func(f *Function, v uint64) { f.raise(uint32(v)) }),
	regs.InterruptAck:    action(func(f *Function, v uint64) { f.acknowledge(uint32(v)) }),

	regs.DMASource: argument(func(f *Function) *uint64 { return &f.values.source }),
	regs.DMADest:   argument(func(f *Function) *uint64 { return &f.values.dest }),
	regs.DMACount:  argument(func(f *Function) *uint64 { return &f.values.count }),
	regs.DMACmd:    {load: func(f *Function) uint64 { return f.values.dmaCmd }, store: (*Function).storeDMACmd},

	regs.Features:   {load: (*Function).loadFeatures},
	regs.Result:     {load: func(f *Function) uint64 { return uint64(f.values.result) }},
	regs.Attributes: argument(func(f *Function) *uint64 { return (*uint64)(&f.values.attrs) }),
	regs.Command:    {load: func(f *Function) uint64 { return f.values.command }, store: (*Function).storeCommand},
	regs.Address:    argument(func(f *Function) *uint64 { return &f.values.address }),
	regs.Chunk:      argument(func(f *Function) *uint64 { return &f.values.chunk }),
	regs.Control:    {load: (*Function).loadControl, store: (*Function).storeControl},

	regs.TranslatedAddr: {load: func(f *Function) uint64 { return f.values.translatedAddr }},
	regs.TranslatedSize: {load: func(f *Function) uint64 { return f.values.translatedSize }},

	regs.ATCEntries:        {load: func(f *Function) uint64 { return uint64(f.atc.len()) }},
	regs.Invalidations:     {load: func(f *Function) uint64 { return f.values.invalidations }},
	regs.InvalidationFirst: {load: func(f *Function) uint64 { return f.oldestDrop().First }},
	regs.InvalidationLast:  {load: func(f *Function) uint64 { return f.oldestDrop().Last }},
	regs.InvalidationInfo:  {load: (*Function).loadInvalidationInfo, store: (*Function).removeInvalidation},

	regs.PageGroups:    {load: func(f *Function) uint64 { return uint64(len(f.pages.waiting)) }},
	regs.PageResponses: {load: func(f *Function) uint64 { return f.values.responses }},
	regs.PageResponse:  {load: (*Function).loadResponse, store: (*Function).removeResponse},
}

// argument returns a register that ignores stores while a DMA or command runs.
func argument(at func(*Function) *uint64) register {
	return register{
		load: func(f *Function) uint64 { return *at(f) },
		store: func(f *Function, v uint64) func() {
			if !f.values.busy {
				*at(f) = v
			}
			return nil
		},
	}
}

// action returns a write-only register.
func action(store func(*Function, uint64)) register {
	return register{
		load: func(*Function) uint64 { return math.MaxUint64 },
		store: func(f *Function, v uint64) func() {
			store(f, v)
			return nil
		},
	}
}

func (f *Function) load(off uint64, size int) uint64 {
	v := uint64(math.MaxUint64)
	if r, ok := registers[off]; ok && accessible(off, size) {
		v = r.load(f)
	}
	return v & (math.MaxUint64 >> (64 - 8*size))
}

func (f *Function) store(off uint64, size int, value uint64) (rest func()) {
	if r, ok := registers[off]; ok && accessible(off, size) && r.store != nil {
		return r.store(f, value)
	}
	return nil
}

func (f *Function) storeLiveness(v uint64) func() {
	f.values.liveness = ^uint32(v)
	return nil
}

func (f *Function) storeStatus(v uint64) func() {
	f.values.status = uint32(v) & regs.FactorialInterrupt
	return nil
}

// storeFactorial computes a factorial modulo 2^32, which is 0 from 34! on.
func (f *Function) storeFactorial(v uint64) func() {
	product := uint32(1)
	for n := uint32(v); n > 0 && product != 0; n-- {
		product *= n
	}
	f.values.factorial = product
	if f.values.status&regs.FactorialInterrupt != 0 {
		f.raise(regs.FactorialDone)
	}
	return nil
}

func (f *Function) loadFeatures() uint64 {
	v := regs.Feature(0)
	for _, has := range []struct {
		it  bool
		bit regs.Feature
	}{
		{f.cfg.Features.PASIDBits > 0, regs.PASID},
		{f.cfg.Features.ATS, regs.ATS},
		{f.cfg.Features.PRI, regs.PRI},
		{f.cfg.Features.Stalls, regs.Stalls},
		{f.cfg.Features.FLR, regs.FLR},
	} {
		if has.it {
			v |= has.bit
		}
	}
	return regs.Magic<<32 | uint64(v)
}

func (f *Function) loadControl() uint64 {
	if f.hang != nil {
		return regs.ControlHang
	}
	return 0
}

func (f *Function) storeControl(v uint64) func() {
	switch hang := v&regs.ControlHang != 0; {
	case hang && f.hang == nil:
		f.hang = make(chan struct{})
	case !hang && f.hang != nil:
		close(f.hang)
		f.hang = nil
	}
	return nil
}

// oldestDrop returns the oldest invalidation of the log, or the zero value.
func (f *Function) oldestDrop() (r soft.ATCRange) {
	if len(f.drops) > 0 {
		r = f.drops[0]
	}
	return r
}

func (f *Function) loadInvalidationInfo() uint64 {
	if len(f.drops) == 0 {
		return 0
	}
	r, v := f.drops[0], uint64(regs.LogValid)
	if r.HasSubstream {
		v |= uint64(regs.Attrs(0).WithPASID(uint32(r.Substream)))
	}
	if r.Global {
		v |= regs.InvalidationGlobal
	}
	return v
}

func (f *Function) removeInvalidation(uint64) func() {
	if len(f.drops) > 0 {
		f.drops = slices.Delete(f.drops, 0, 1)
	}
	return nil
}

func (f *Function) loadResponse() uint64 {
	if len(f.pages.log) == 0 {
		return 0
	}
	return uint64(f.pages.log[0])
}

func (f *Function) removeResponse(uint64) func() {
	if len(f.pages.log) > 0 {
		f.pages.log = slices.Delete(f.pages.log, 0, 1)
	}
	return nil
}

package edu

import (
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
)

// pageSize is the largest size of a transaction, which does not cross a multiple of it.
const pageSize = 4096

// transfer is a DMA between the buffer and memory.
type transfer struct {
	f        *Function
	attrs    regs.Attrs
	toMemory bool
	iova     uint64
	at, n    uint64 // in the buffer
	chunk    uint64 // largest size of a transaction; 0 means pageSize
}

func (f *Function) storeDMACmd(v uint64) (rest func()) {
	if f.values.busy || v&regs.DMAStart == 0 {
		return nil
	}
	f.values.dmaCmd = v
	t := f.transfer(v&regs.DMAToMemory != 0)
	return f.start(t.run, func() {
		if v&regs.DMAInterrupt != 0 {
			f.raise(regs.DMADone)
		}
	})
}

// transfer returns the DMA that the registers describe. mu is held.
func (f *Function) transfer(toMemory bool) *transfer {
	v := &f.values
	t := &transfer{f: f, attrs: v.attrs, toMemory: toMemory, n: v.count, chunk: v.chunk}
	if toMemory {
		t.at, t.iova = v.source-regs.Buffer, v.dest
	} else {
		t.at, t.iova = v.dest-regs.Buffer, v.source
	}
	return t
}

// valid reports whether the DMA is within the buffer.
func (t *transfer) valid() bool { return t.n <= regs.BufferSize && t.at <= regs.BufferSize-t.n }

// run makes the transactions of a DMA, also after one that fails. Its outcome has the error of the
// last that failed.
func (t *transfer) run(l *life) regs.Outcome {
	if !t.valid() {
		return outcome(errInvalid, 0)
	}
	var failed error
	moved := 0
	for done := uint64(0); done < t.n; {
		iova := t.iova + done
		size := min(t.n-done, pageSize-iova%pageSize)
		if t.chunk > 0 {
			size = min(size, t.chunk)
		}
		p := make([]byte, size)
		if t.toMemory {
			t.f.copyBuffer(p, t.at+done, false)
		}
		if err := t.part(l, iova, p); err != nil {
			failed = err
		} else {
			moved += len(p)
			if !t.toMemory {
				t.f.copyBuffer(p, t.at+done, true)
			}
		}
		done += size
		if l.Err() != nil {
			return outcome(errReset, moved)
		}
	}
	return outcome(failed, moved)
}

// copyBuffer copies p to the buffer, or from it.
func (f *Function) copyBuffer(p []byte, at uint64, in bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if in {
		copy(f.buffer[at:], p)
	} else {
		copy(p, f.buffer[at:])
	}
}

// part makes one transaction.
func (t *transfer) part(l *life, iova uint64, p []byte) error {
	if t.attrs.Has(regs.ByATS) {
		return t.partByATS(l, iova, p)
	}
	return t.f.transact(l, t.attrs, func(port soft.Port) error {
		if t.toMemory {
			return port.WriteAt(p, iova)
		}
		return port.ReadAt(p, iova)
	})
}

// translated makes one transaction at a translated address.
func (t *transfer) translated(addr guestmem.GPA, p []byte) error {
	if t.toMemory {
		return t.f.endpoint.WriteTranslated(p, addr)
	}
	return t.f.endpoint.ReadTranslated(p, addr)
}

package soft

import (
	"math/bits"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"
)

// readers counts the transactions under way, so that a withdrawal can wait for
// those which may use what it withdraws. To enter and to leave costs one atomic
// addition, to a counter that other processors seldom touch.
//
// There are two sets of counters, and phase says which one transactions enter
// by. A withdrawal waits for the idle set, which only transactions can be in
// that read phase before the previous withdrawal turned it; turns phase; and
// waits for the set that was in use. Transactions that keep coming enter by the
// other one, so the wait ends.
type readers struct {
	phase   atomic.Uint32
	_       [cacheLine - 4]byte
	stripes []stripe // a power of two of them
}

// cacheLine is what one processor's writes take from the others: two lines,
// as processors fetch neighbours along.
const cacheLine = 128

type stripe struct {
	n [2]atomic.Int64
	_ [cacheLine - 16]byte
}

func newReaders() *readers {
	n := min(runtime.GOMAXPROCS(0)*2, 64)
	return &readers{stripes: make([]stripe, 1<<bits.Len(uint(n-1)))}
}

// mark is a transaction's place among the readers.
type mark struct{ n *atomic.Int64 }

func (r *readers) enter() mark {
	s := &r.stripes[goroutineHash()&uint64(len(r.stripes)-1)]
	n := &s.n[r.phase.Load()&1]
	n.Add(1)
	return mark{n}
}

func (m mark) leave() { m.n.Add(-1) }

// goroutineHash differs between goroutines that run at the same time: no two of
// them have a stack in the same place. It is but a hint, and may change from
// call to call.
func goroutineHash() uint64 {
	var here byte
	return uint64(uintptr(unsafe.Pointer(&here))>>11) * 0x9e3779b97f4a7c15 >> 32
}

// drain returns when the transactions that had entered before have left. One
// caller at a time.
func (r *readers) drain() {
	old := r.phase.Load() & 1
	r.wait(1 - old)
	r.phase.Store(1 - old)
	r.wait(old)
}

func (r *readers) wait(phase uint32) {
	for i := range r.stripes {
		n := &r.stripes[i].n[phase]
		// Most transactions last less than a microsecond; one that the embedder's
		// memory keeps waiting may last for long, and is not worth a processor.
		for spins := 0; n.Load() != 0; spins++ {
			if spins < 100 {
				runtime.Gosched()
			} else {
				time.Sleep(time.Duration(min(spins, 1000)) * time.Microsecond)
			}
		}
	}
}

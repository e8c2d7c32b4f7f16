package guestmem

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Fake is Memory for tests: all of the address space, zero until written to,
// with failures where the test wants them. Its words are atomic, so that a test
// may play the guest, and write while the device reads, under the race detector.
//
// The zero value is ready. All methods may be called from any goroutine.
type Fake struct {
	pages  Slots
	mu     sync.Mutex
	faults atomic.Pointer[[]fakeFault] // changed as a whole, with mu held
	reads  atomic.Uint64
	writes atomic.Uint64
}

var (
	_ Memory  = (*Fake)(nil)
	_ Swapper = (*Fake)(nil)
)

type fakeFault struct {
	op  string // opRead or opWrite
	in  Range
	err error
}

// fakePage is how much memory comes into being at the first access.
const fakePage = 64 << 10

// FailReads has every read that touches the range fail, as a swap does, with an
// AccessError that wraps err; ErrUnmapped if err is nil.
func (f *Fake) FailReads(in Range, err error) { f.fail(fakeFault{opRead, in, err}) }

// FailWrites has every write that touches the range fail, as a swap does, with
// an AccessError that wraps err; ErrUnmapped if err is nil.
func (f *Fake) FailWrites(in Range, err error) { f.fail(fakeFault{opWrite, in, err}) }

// Heal takes back all failures. What the memory holds stays.
func (f *Fake) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults.Store(nil)
}

// Reads is how many reads there were, failed ones and swaps among them.
func (f *Fake) Reads() uint64 { return f.reads.Load() }

// Writes is how many writes there were, failed ones and swaps among them.
func (f *Fake) Writes() uint64 { return f.writes.Load() }

// SetWords writes words as the guest does: nothing fails, and nothing is
// counted. It panics if gpa is no multiple of 8, since the test is then wrong.
func (f *Fake) SetWords(gpa GPA, words ...uint64) {
	for i, w := range words {
		at := gpa + GPA(i*wordSize)
		f.page(at)
		if err := f.pages.Store64(at, w); err != nil {
			panic(err)
		}
	}
}

// Words reads n words as the guest does: nothing fails, and nothing is counted.
// It panics if gpa is no multiple of 8, since the test is then wrong.
func (f *Fake) Words(gpa GPA, n int) []uint64 {
	words := make([]uint64, n)
	for i := range words {
		at := gpa + GPA(i*wordSize)
		f.page(at)
		w, err := f.pages.Load64(at)
		if err != nil {
			panic(err)
		}
		words[i] = w
	}
	return words
}

// ReadAt is Memory's.
func (f *Fake) ReadAt(p []byte, gpa GPA) error {
	f.reads.Add(1)
	if err := f.prepare(opRead, gpa, len(p), opRead); err != nil {
		return err
	}
	return f.pages.ReadAt(p, gpa)
}

// WriteAt is Memory's.
func (f *Fake) WriteAt(p []byte, gpa GPA) error {
	f.writes.Add(1)
	if err := f.prepare(opWrite, gpa, len(p), opWrite); err != nil {
		return err
	}
	return f.pages.WriteAt(p, gpa)
}

// Load64 is a read of one word, as Slots has it.
func (f *Fake) Load64(gpa GPA) (uint64, error) {
	f.reads.Add(1)
	if err := f.prepare(opRead, gpa, wordSize, opRead); err != nil {
		return 0, err
	}
	return f.pages.Load64(gpa)
}

// Store64 is a write of one word, as Slots has it.
func (f *Fake) Store64(gpa GPA, v uint64) error {
	f.writes.Add(1)
	if err := f.prepare(opWrite, gpa, wordSize, opWrite); err != nil {
		return err
	}
	return f.pages.Store64(gpa, v)
}

// CompareAndSwap is Swapper's: a read and a write.
func (f *Fake) CompareAndSwap(gpa GPA, old, new uint64) (bool, error) {
	f.reads.Add(1)
	f.writes.Add(1)
	if err := f.prepare(opSwap, gpa, wordSize, opRead, opWrite); err != nil {
		return false, err
	}
	return f.pages.CompareAndSwap(gpa, old, new)
}

func (f *Fake) fail(fault fakeFault) {
	if fault.err == nil {
		fault.err = ErrUnmapped
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	faults := append(slices.Clone(f.faultList()), fault)
	f.faults.Store(&faults)
}

func (f *Fake) faultList() []fakeFault {
	if l := f.faults.Load(); l != nil {
		return *l
	}
	return nil
}

// prepare returns the error that an access shall have: that of the failure
// which it meets first. If there is none it sees that there is memory.
func (f *Fake) prepare(op string, gpa GPA, n int, met ...string) error {
	if n == 0 {
		return nil
	}
	access := Range{gpa, uint64(n)}
	var first *AccessError
	for _, fault := range f.faultList() {
		if !slices.Contains(met, fault.op) || !fault.in.Overlaps(access) {
			continue
		}
		if at := max(gpa, fault.in.GPA); first == nil || at < first.GPA {
			first = &AccessError{op, at, n, fault.err}
		}
	}
	if first != nil {
		return first
	}
	for page := gpa - gpa%fakePage; ; page += fakePage {
		f.page(page)
		if access.last()-page < fakePage {
			return nil
		}
	}
}

// page sees that there is memory at gpa.
func (f *Fake) page(gpa GPA) {
	gpa -= gpa % fakePage
	for {
		if _, err := f.pages.Slice(gpa, 1, true); err == nil {
			return
		}
		// Add fails if another goroutine was faster, and the page is then there.
		_ = f.pages.Add(Slot{GPA: gpa, Mem: make([]byte, fakePage)})
	}
}

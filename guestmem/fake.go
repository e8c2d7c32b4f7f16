package guestmem

import (
	"slices"
	"sync"
	"sync/atomic"
)

// Fake is Memory for tests. It covers the whole address space, reads as zero until written to, and
// fails on request. Its words are atomic: a test may write as the guest while the device reads,
// also under the race detector.
//
// The zero value is ready for use. All methods may be called from any goroutine.
type Fake struct {
	pages  Slots
	mu     sync.Mutex
	faults atomic.Pointer[[]fakeFault] // replaced as a whole, with mu held
	reads  atomic.Uint64
	writes atomic.Uint64
}

var (
	_ Memory  = (*Fake)(nil)
	_ Swapper = (*Fake)(nil)
	_ Swapper = mappedFake{}
)

// Mapped returns the memory as a Mapper, which most devices access in another way than a plain
// Memory. A Slice counts as a read or a write, and fails if a failure is in its first word. It ends
// before a failure in a later word. A failure that is added later does not affect it.
func (f *Fake) Mapped() Mapper { return mappedFake{f} }

type mappedFake struct{ *Fake }

func (f mappedFake) Sections() *Sections { return f.pages.Sections() }

func (f mappedFake) Slice(gpa GPA, n int, write bool) ([]byte, error) {
	op := opRead
	if write {
		op = opWrite
		f.writes.Add(1)
	} else {
		f.reads.Add(1)
	}
	if n < 1 {
		return nil, ErrSize
	}
	if uint64(n-1) > uint64(^gpa) {
		n = int(^gpa) + 1
	}
	if err := f.failure(op, gpa, n, op); err != nil {
		end := err.GPA &^ (wordSize - 1)
		if end <= gpa {
			return nil, err.Err
		}
		n = int(end - gpa)
	}
	f.page(gpa)
	return f.pages.Slice(gpa, n, write)
}

type fakeFault struct {
	op  string // opRead or opWrite
	in  Range
	err error
}

// fakePage is the size in bytes of the memory that the first access to an address allocates.
const fakePage = 64 << 10

// FailReads makes every read and every swap that touches the range fail with an AccessError that
// wraps err, or ErrUnmapped if err is nil. It panics if the range is empty.
func (f *Fake) FailReads(in Range, err error) { f.fail(fakeFault{opRead, in, err}) }

// FailWrites makes every write and every swap that touches the range fail with an AccessError that
// wraps err, or ErrUnmapped if err is nil. It panics if the range is empty.
func (f *Fake) FailWrites(in Range, err error) { f.fail(fakeFault{opWrite, in, err}) }

// Heal removes all failures. The contents of the memory stay.
func (f *Fake) Heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults.Store(nil)
}

// Reads returns the number of reads, including failed reads and swaps.
func (f *Fake) Reads() uint64 { return f.reads.Load() }

// Writes returns the number of writes, including failed writes and swaps.
func (f *Fake) Writes() uint64 { return f.writes.Load() }

// SetWords writes words from gpa on, as the guest does: it never fails and is not counted. It
// panics if gpa is not a multiple of 8, or if the words extend past the end of the address space.
func (f *Fake) SetWords(gpa GPA, words ...uint64) {
	mustFit(gpa, len(words))
	for i, w := range words {
		at := gpa + GPA(i*wordSize)
		f.page(at)
		if err := f.pages.Store64(at, w); err != nil {
			panic(err)
		}
	}
}

// Words reads n words from gpa on, as the guest does: it never fails and is not counted. It panics
// if gpa is not a multiple of 8, if n is negative, or if the words extend past the end of the
// address space.
func (f *Fake) Words(gpa GPA, n int) []uint64 {
	mustFit(gpa, n)
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

// mustFit panics if the address space does not hold n words from gpa on. The test is then wrong.
func mustFit(gpa GPA, n int) {
	switch {
	case gpa%wordSize != 0:
		panic(&AccessError{opRead, gpa, wordSize, ErrMisaligned})
	case n < 0 || uint64(n) > uint64(^gpa)/wordSize+1:
		panic(&AccessError{opRead, gpa, n, ErrSize})
	}
}

// ReadAt implements Memory.
func (f *Fake) ReadAt(p []byte, gpa GPA) error {
	f.reads.Add(1)
	if err := f.prepare(opRead, gpa, len(p), opRead); err != nil {
		return err
	}
	return f.pages.ReadAt(p, gpa)
}

// WriteAt implements Memory.
func (f *Fake) WriteAt(p []byte, gpa GPA) error {
	f.writes.Add(1)
	if err := f.prepare(opWrite, gpa, len(p), opWrite); err != nil {
		return err
	}
	return f.pages.WriteAt(p, gpa)
}

// Load64 reads one word, as Slots.Load64 does.
func (f *Fake) Load64(gpa GPA) (uint64, error) {
	f.reads.Add(1)
	if err := f.prepare(opRead, gpa, wordSize, opRead); err != nil {
		return 0, err
	}
	return f.pages.Load64(gpa)
}

// Store64 writes one word, as Slots.Store64 does.
func (f *Fake) Store64(gpa GPA, v uint64) error {
	f.writes.Add(1)
	if err := f.prepare(opWrite, gpa, wordSize, opWrite); err != nil {
		return err
	}
	return f.pages.Store64(gpa, v)
}

// CompareAndSwap implements Swapper. It counts as a read and as a write.
func (f *Fake) CompareAndSwap(gpa GPA, old, new uint64) (bool, error) {
	f.reads.Add(1)
	f.writes.Add(1)
	if err := f.prepare(opSwap, gpa, wordSize, opRead, opWrite); err != nil {
		return false, err
	}
	return f.pages.CompareAndSwap(gpa, old, new)
}

func (f *Fake) fail(fault fakeFault) {
	if fault.in.Len == 0 {
		panic("guestmem: fake failure in an empty range: no access touches it")
	}
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

// prepare returns the error of an access: the failure of the given kinds at the lowest address. If
// there is none, it allocates the memory.
func (f *Fake) prepare(op string, gpa GPA, n int, kinds ...string) error {
	if n == 0 {
		return nil
	}
	if err := f.failure(op, gpa, n, kinds...); err != nil {
		return err
	}
	access := Range{gpa, uint64(n)}
	for page := gpa - gpa%fakePage; ; page += fakePage {
		f.page(page)
		if access.last()-page < fakePage {
			return nil
		}
	}
}

// failure returns the failure of the given kinds at the lowest address of an access, or nil.
func (f *Fake) failure(op string, gpa GPA, n int, kinds ...string) (first *AccessError) {
	access := Range{gpa, uint64(n)}
	for _, fault := range f.faultList() {
		if !slices.Contains(kinds, fault.op) || !fault.in.Overlaps(access) {
			continue
		}
		if at := max(gpa, fault.in.GPA); first == nil || at < first.GPA {
			first = &AccessError{op, at, n, fault.err}
		}
	}
	return first
}

// page allocates the memory at gpa unless it exists.
func (f *Fake) page(gpa GPA) {
	gpa -= gpa % fakePage
	for {
		if _, err := f.pages.Slice(gpa, 1, true); err == nil {
			return
		}
		// Add fails if another goroutine has added the page in the meantime.
		_ = f.pages.Add(Slot{GPA: gpa, Mem: make([]byte, fakePage)})
	}
}

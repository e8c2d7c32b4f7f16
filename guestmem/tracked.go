package guestmem

import (
	"errors"
	"reflect"
	"sync"
	"sync/atomic"
	"unsafe"
)

// Tracked is memory that keeps a dirty log: an Account of the pages that devices write to. A VMM
// needs it to migrate a guest while the guest runs. It wraps a Mapper such as Slots, and is itself
// a Mapper and a Swapper, so that soft.Config.Memory and vsmmu.Config.Memory both take it.
//
// All writes through a Tracked are in its account: WriteAt, Store64, CompareAndSwap, and whatever
// the holder of a writable Slice does with it. That covers the DMA of soft.Endpoints and their
// mappings, hardware updates of the Access flag and dirty state, and the event records, page
// requests and MSIs of a vsmmu.Device, which therefore needs no Config.Dirty.
//
// Three kinds of writes are not in an account. The guest's own stores are in the hypervisor's log
// (KVM_GET_DIRTY_LOG). The DMA of physical devices is in that of iommufd, if the IOMMU supports it
// (IOMMU_HWPT_GET_DIRTY_BITMAP). Writes to the wrapped memory that bypass the Tracked are in none.
//
// # A live migration
//
//   - Round 0: call NewAccount, which starts the first account. Start the hypervisor's log. Copy
//     all of the guest's memory.
//   - Round n: call NewAccount, which returns the account of the previous round. Read and reset
//     the hypervisor's log. Copy the pages that either of them names. Repeat until few are named.
//   - Last round: stop the vCPUs and the endpoints. Call vsmmu.Device.Save, which may still write
//     to guest memory. Call Stop, and read the hypervisor's log. Copy the pages that either of them
//     names, and the device's state.
//
// In each round the order is: new account, wait for the writers of the old one, copy. NewAccount
// does the first two. The opposite order, to wait and then replace the account, loses writes: a
// soft.Host that finds a page between the two steps marks it in the old account, and goes on to
// write to it while the new one is kept.
//
// A page that could not be copied returns to the current account by Mark. So do pages of a slot
// that is added during a migration, since the destination has nothing of them. Pages of a slot that
// was removed may be in an account; reading them fails with ErrUnmapped.
//
// # Cost
//
// Slice with write marks the pages of the slice. Whoever keeps the slice for other sections of
// the same epoch, as a soft.Host does, marks nothing more until the next account. Without an
// account, before the first NewAccount and after Stop, nothing is marked.
//
// All methods may be called from any goroutine.
type Tracked struct {
	mem     Mapper
	account atomic.Pointer[Account] // nil while there is none
	mu      sync.Mutex              // serialises the replacement of account
}

var (
	_ Mapper  = (*Tracked)(nil)
	_ Swapper = (*Tracked)(nil)
)

// NewTracked returns memory that tracks writes to m. It starts without an account. NewTracked fails
// if m is nil or has no Sections.
func NewTracked(m Mapper) (*Tracked, error) {
	if isNil(m) {
		return nil, errors.New("guestmem: new tracked memory: no memory to track")
	}
	if m.Sections() == nil {
		return nil, errors.New("guestmem: new tracked memory: the memory's Sections are nil")
	}
	return &Tracked{mem: m}, nil
}

// isNil reports whether v is nil, or an interface that holds a nil pointer.
func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return !r.IsValid() || r.Kind() == reflect.Pointer && r.IsNil()
}

// NewAccount starts an account and returns the previous one, complete, or nil if there was none.
// When it returns, memory has all writes of the previous account, and all further writes are in the
// new one.
//
// NewAccount waits for the read-side critical sections that may hold a slice marked in the previous
// account, among them those of a soft.Mapping until its Release. It must not be called within one.
func (t *Tracked) NewAccount() *Account {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.replace(t.account.Load().successor())
}

// Stop ends the account without starting another, and returns it as NewAccount does. From then on
// nothing is marked.
func (t *Tracked) Stop() *Account {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.replace(nil)
}

// replace makes a the current account. mu is held.
func (t *Tracked) replace(a *Account) *Account {
	old := t.account.Swap(a)
	// A section that began earlier may hold slices that only the old account names. Drain waits for
	// it, and ends the epoch, and with it the use of such slices that are cached.
	t.mem.Sections().Drain()
	return old
}

// Mark adds the pages of r to the current account, as if they had been written to. It fails at the
// first address of r where there is no memory; the pages below that are marked.
func (t *Tracked) Mark(r Range) error {
	section := t.mem.Sections().Enter()
	defer section.Leave()
	if r.wraps() {
		return &AccessError{opMark, r.GPA, clampInt(r.Len), ErrUnmapped}
	}
	for gpa, n := r.GPA, r.Len; n > 0; {
		mem, err := t.mem.Slice(gpa, clampInt(n), false)
		if err != nil {
			return &AccessError{opMark, gpa, clampInt(r.Len), err}
		}
		t.mark(gpa, len(mem))
		gpa, n = gpa+GPA(len(mem)), n-uint64(len(mem))
	}
	return nil
}

// clampInt returns n, or the greatest int if n is greater.
func clampInt(n uint64) int { return int(min(n, uint64(^uint(0)>>1))) }

// mark adds the pages of n bytes to the current account. The caller is in a section, and writes
// to the memory within it.
func (t *Tracked) mark(gpa GPA, n int) {
	if a := t.account.Load(); a != nil {
		a.mark(gpa, n)
	}
}

// Sections returns those of the wrapped memory.
func (t *Tracked) Sections() *Sections { return t.mem.Sections() }

// Slice returns a slice of the wrapped memory. With write it marks the slice's pages.
func (t *Tracked) Slice(gpa GPA, n int, write bool) ([]byte, error) {
	mem, err := t.mem.Slice(gpa, n, write)
	if write && err == nil {
		t.mark(gpa, len(mem))
	}
	return mem, err
}

// ReadAt copies guest memory to p.
func (t *Tracked) ReadAt(p []byte, gpa GPA) error { return t.mem.ReadAt(p, gpa) }

// WriteAt copies p to guest memory. If it fails, the account has what was written up to there.
func (t *Tracked) WriteAt(p []byte, gpa GPA) error {
	size := len(p)
	if (Range{gpa, uint64(size)}).wraps() {
		return &AccessError{opWrite, gpa, size, ErrUnmapped}
	}
	section := t.mem.Sections().Enter()
	defer section.Leave()
	for len(p) > 0 {
		mem, err := t.Slice(gpa, len(p), true)
		if err != nil {
			return &AccessError{opWrite, gpa, size, err}
		}
		Store(mem, p[:len(mem)])
		p, gpa = p[len(mem):], gpa+GPA(len(mem))
	}
	return nil
}

// Load64 reads the 8-byte word at gpa, a multiple of 8, in one atomic step.
func (t *Tracked) Load64(gpa GPA) (uint64, error) {
	section := t.mem.Sections().Enter()
	defer section.Leave()
	w, err := t.word(opRead, gpa)
	if err != nil {
		return 0, err
	}
	return atomic.LoadUint64(w), nil
}

// Store64 writes the 8-byte word at gpa, a multiple of 8, in one atomic step.
func (t *Tracked) Store64(gpa GPA, v uint64) error {
	section := t.mem.Sections().Enter()
	defer section.Leave()
	w, err := t.word(opWrite, gpa)
	if err != nil {
		return err
	}
	atomic.StoreUint64(w, v)
	return nil
}

// CompareAndSwap implements Swapper.
func (t *Tracked) CompareAndSwap(gpa GPA, old, new uint64) (swapped bool, err error) {
	section := t.mem.Sections().Enter()
	defer section.Leave()
	w, err := t.word(opSwap, gpa)
	if err != nil {
		return false, err
	}
	return atomic.CompareAndSwapUint64(w, old, new), nil
}

// word returns the word at gpa for an access, and marks its page unless the access is a read. The
// caller is in a section.
func (t *Tracked) word(op string, gpa GPA) (*uint64, error) {
	if gpa%wordSize != 0 {
		return nil, &AccessError{op, gpa, wordSize, ErrMisaligned}
	}
	mem, err := t.Slice(gpa, wordSize, op != opRead)
	if err != nil {
		return nil, &AccessError{op, gpa, wordSize, err}
	}
	at := unsafe.Pointer(unsafe.SliceData(mem))
	if uintptr(at)%wordSize != 0 || len(mem) < wordSize {
		return nil, &AccessError{op, gpa, wordSize, ErrMisaligned}
	}
	return (*uint64)(at), nil
}

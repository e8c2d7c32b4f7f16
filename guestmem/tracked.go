package guestmem

import (
	"errors"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
)

// Tracked is memory that keeps a dirty log: an Account of the pages that devices write to. A VMM
// needs it to migrate a guest while the guest runs. It wraps a Mapper such as Slots, and is itself
// a Mapper and a Swapper, so that soft.Config.Memory and vsmmu.Config.Memory both take it.
//
// The account has all writes through a Tracked: WriteAt, Store64, CompareAndSwap, and writes to a
// writable Slice. That covers the DMA of soft.Endpoints and their mappings, hardware updates of the
// Access flag and dirty state, and the event records, page requests and MSIs of a vsmmu.Device.
// Such a device needs no Config.Dirty.
//
// Three kinds of writes are not in an account. The guest's own stores are in the hypervisor's log
// (KVM_GET_DIRTY_LOG). The DMA of physical devices is in the log of iommufd, if the IOMMU supports
// it (IOMMU_HWPT_GET_DIRTY_BITMAP). Writes to the wrapped memory that bypass the Tracked are in no
// log.
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
// Each round starts a new account, waits for the writers of the old one, and copies, in this order.
// NewAccount does the first two steps. The opposite order, which waits first, loses writes. A
// soft.Host that finds a page between the two steps marks it in the old account, and still writes
// to it when the new account is current.
//
// Call Mark for a page that could not be copied: it adds the page to the current account. Mark also
// adds the pages of a slot that is added during a migration, since the destination does not have
// them. An account may name pages of a removed slot; reading them fails with ErrUnmapped.
//
// # Cost
//
// Slice with write marks the pages of the slice. A user that keeps the slice for other sections of
// the same epoch, as a soft.Host does, marks nothing more until the next account. Without an
// account, before the first NewAccount and after Stop, nothing is marked.
//
// NewTracked makes a Tracked: the zero value has no memory. All methods may be called from any
// goroutine.
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
	if nilcheck.IsNil(m) {
		return nil, errors.New("guestmem: new tracked memory: no memory to track")
	}
	if m.Sections() == nil {
		return nil, errors.New("guestmem: new tracked memory: the memory's Sections are nil")
	}
	return &Tracked{mem: m}, nil
}

// NewAccount starts an account and returns the previous one, or nil if there was none. On return,
// memory has all writes of the previous account, and the new account has all further writes.
//
// NewAccount waits for the read-side critical sections that may hold a slice marked in the previous
// account. A soft.Mapping is such a section until its Release. NewAccount must not be called within
// one.
func (t *Tracked) NewAccount() *Account {
	if !t.made() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.replace(t.account.Load().successor())
}

// Stop ends the account without starting another, and returns it as NewAccount does. From then on
// nothing is marked.
func (t *Tracked) Stop() *Account {
	if !t.made() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.replace(nil)
}

// made reports whether NewTracked made t. Any other Tracked has no memory.
func (t *Tracked) made() bool { return t != nil && t.mem != nil }

// replace makes a the current account. mu is held.
func (t *Tracked) replace(a *Account) *Account {
	old := t.account.Swap(a)
	// A section that began earlier may hold slices that only the old account names. Drain waits for
	// it. Drain also ends the epoch, so cached slices of that epoch are no longer used.
	t.mem.Sections().Drain()
	return old
}

// Mark adds the pages of r to the current account, as if they had been written to. It fails at the
// first address of r where there is no memory; the pages below that are marked.
func (t *Tracked) Mark(r Range) error {
	if !t.made() {
		return &AccessError{opMark, r.GPA, clampInt(r.Len), ErrUnmapped}
	}
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

// mark adds the pages of n bytes to the current account. The caller is in a section, and writes to
// the memory before the section ends.
func (t *Tracked) mark(gpa GPA, n int) {
	if a := t.account.Load(); a != nil {
		a.mark(gpa, n)
	}
}

// Sections returns the sections of the wrapped memory.
func (t *Tracked) Sections() *Sections {
	if !t.made() {
		return nil
	}
	return t.mem.Sections()
}

// Slice returns a slice of the wrapped memory. With write it marks the slice's pages.
func (t *Tracked) Slice(gpa GPA, n int, write bool) ([]byte, error) {
	if !t.made() {
		return nil, ErrUnmapped
	}
	mem, err := t.mem.Slice(gpa, n, write)
	if write && err == nil {
		t.mark(gpa, len(mem))
	}
	return mem, err
}

// ReadAt copies guest memory to p.
func (t *Tracked) ReadAt(p []byte, gpa GPA) error {
	if !t.made() {
		return &AccessError{opRead, gpa, len(p), ErrUnmapped}
	}
	return t.mem.ReadAt(p, gpa)
}

// WriteAt copies p to guest memory. If it fails, the account has the bytes written before the
// failure.
func (t *Tracked) WriteAt(p []byte, gpa GPA) error {
	size := len(p)
	if !t.made() || (Range{gpa, uint64(size)}).wraps() {
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
	if !t.made() {
		return 0, &AccessError{opRead, gpa, wordSize, ErrUnmapped}
	}
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
	if !t.made() {
		return &AccessError{opWrite, gpa, wordSize, ErrUnmapped}
	}
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
	if !t.made() {
		return false, &AccessError{opSwap, gpa, wordSize, ErrUnmapped}
	}
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

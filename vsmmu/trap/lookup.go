package trap

import (
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// Entry is the result of a lookup in the Stream table: an STE, or the event of a failed lookup.
type Entry struct {
	STE smmuv3.STE
	// Fault is 0, C_BAD_STREAMID or F_STE_FETCH.
	Fault smmuv3.EventType
	// FetchAddr is the address of the fetch that failed, for F_STE_FETCH.
	FetchAddr guestmem.GPA
}

// Reader looks up STEs. One goroutine at a time may use it.
type Reader struct {
	mem guestmem.WordMemory
	// Read buffers. Local buffers would escape through the interface, and each lookup would
	// allocate.
	entry Entry
	l1std [1]uint64
}

// NewReader returns a Reader of guest memory.
func NewReader(mem guestmem.Memory) *Reader { return &Reader{mem: guestmem.NewWordMemory(mem)} }

// Lookup returns a stream's STE (IHI 0070 §3.3.1). It reads each structure once, and never reads
// beyond the table (§3.21.3).
func (r *Reader) Lookup(t smmuv3.StreamTable, sid smmuv3.StreamID) Entry {
	var p path
	r.lookup(&t, sid, &p)
	return r.entry
}

// lookup reads the entry of a stream into r.entry. It fills in the path: the structures that it
// read.
func (r *Reader) lookup(t *smmuv3.StreamTable, sid smmuv3.StreamID, p *path) {
	p[0] = guestmem.Range{}
	if !t.Contains(sid) {
		p[1] = guestmem.Range{}
		r.entry = Entry{Fault: smmuv3.CBadStreamID}
		return
	}
	addr := guestmem.GPA(t.STEAddr(sid))
	if t.TwoLevel {
		var fault smmuv3.EventType
		if addr, fault = r.descend(t, sid, p); fault != 0 {
			p[1] = guestmem.Range{}
			r.entry = Entry{Fault: fault, FetchAddr: addr}
			return
		}
	}
	p[1] = guestmem.Range{GPA: addr, Len: smmuv3.STESize}
	if err := r.mem.Read(r.entry.STE[:], addr); err != nil {
		r.entry = Entry{Fault: smmuv3.FSTEFetch, FetchAddr: addr}
		return
	}
	r.entry.Fault, r.entry.FetchAddr = 0, 0
}

// descend reads the L1STD of a stream, and returns the address of its STE. If fault is F_STE_FETCH,
// addr is the address that could not be fetched.
func (r *Reader) descend(
	t *smmuv3.StreamTable, sid smmuv3.StreamID, p *path,
) (addr guestmem.GPA, fault smmuv3.EventType) {
	l1 := guestmem.GPA(t.L1STDAddr(sid))
	p[0] = guestmem.Range{GPA: l1, Len: smmuv3.L1STDSize}
	if err := r.mem.Read(r.l1std[:], l1); err != nil {
		return l1, smmuv3.FSTEFetch
	}
	d := smmuv3.L1STD(r.l1std[0])
	index := uint64(sid) & (1<<t.Split - 1)
	if index >= d.STEs(*t) {
		return 0, smmuv3.CBadStreamID
	}
	// L2Ptr is truncated to the output address size, like the base of the table. §3.4.3 allows
	// other choices; its note 6 recommends this one to hypervisors.
	return guestmem.GPA(d.L2Ptr()&t.AddrMask + smmuv3.STESize*index), 0
}

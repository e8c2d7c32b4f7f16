package trap

import (
	"encoding/binary"

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
	mem guestmem.Memory
	// Read buffers. Local buffers would escape through the interface, and each lookup would
	// allocate.
	ste   [smmuv3.STESize]byte
	l1std [smmuv3.L1STDSize]byte
}

// NewReader returns a Reader of guest memory.
func NewReader(mem guestmem.Memory) *Reader { return &Reader{mem: mem} }

// Lookup returns a stream's STE (IHI 0070 §3.3.1). It reads each structure once, and never reads
// beyond the table (§3.21.3).
func (r *Reader) Lookup(t smmuv3.StreamTable, sid smmuv3.StreamID) (e Entry) {
	var p path
	r.lookup(&t, sid, &e, &p)
	return e
}

// lookup fills in e, which must be empty, and the path: the structures that it read.
func (r *Reader) lookup(t *smmuv3.StreamTable, sid smmuv3.StreamID, e *Entry, p *path) {
	if !t.Contains(sid) {
		e.Fault = smmuv3.CBadStreamID
		return
	}
	addr := guestmem.GPA(t.STEAddr(sid))
	if t.TwoLevel {
		l1 := guestmem.GPA(t.L1STDAddr(sid))
		p[0] = guestmem.Range{GPA: l1, Len: smmuv3.L1STDSize}
		if err := r.mem.ReadAt(r.l1std[:], l1); err != nil {
			e.Fault, e.FetchAddr = smmuv3.FSTEFetch, l1
			return
		}
		d := smmuv3.L1STD(binary.LittleEndian.Uint64(r.l1std[:]))
		index := uint64(sid) & (1<<t.Split - 1)
		if index >= d.STEs(*t) {
			e.Fault = smmuv3.CBadStreamID
			return
		}
		// L2Ptr is truncated to the output address size, like the base of the table. §3.4.3 allows
		// other choices; its note 6 recommends this one to hypervisors.
		addr = guestmem.GPA(d.L2Ptr()&t.AddrMask + smmuv3.STESize*index)
	}
	p[1] = guestmem.Range{GPA: addr, Len: smmuv3.STESize}
	if err := r.mem.ReadAt(r.ste[:], addr); err != nil {
		e.Fault, e.FetchAddr = smmuv3.FSTEFetch, addr
		return
	}
	e.STE = smmuv3.LoadSTE(&r.ste)
}

package soft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// MaxMap is the most bytes that are mapped at a time.
const MaxMap = 4 << 20

// ErrTooLong is matched by errors of Map for more than MaxMap bytes, or fewer
// than none.
var ErrTooLong = errors.New("size of a mapping out of range")

// Mapping is guest memory in use by a device model, as a DMA that lasts. It must
// not be copied.
type Mapping struct {
	// Segments are the memory, in the order of the IOVAs, until Release. What is
	// next to each other in this process is one segment.
	Segments [][]byte
	section  guestmem.Section
}

// Release ends the DMA. The segments must not be used any more. A second one
// does nothing.
func (m *Mapping) Release() {
	section := m.section
	*m = Mapping{}
	if section != (guestmem.Section{}) {
		section.Leave()
	}
}

// Map hands out n bytes of guest memory from iova on, to be read where they lie or,
// with write, to be written. It takes memory that is a guestmem.Mapper; other memory
// makes it fail with errors.ErrUnsupported. Segments are appended to buf, which may be
// nil.
//
// To the SMMU it is one DMA from Map to Release: whatever withdraws a
// translation, and so the guest's CMD_SYNC, waits for the Release, as does the
// removal of memory. It should last as long as a read from a file, not as a
// guest takes to answer; and in between its holder must not wait for anything
// that waits for the SMMU.
//
// All of the range counts as accessed, and with write as written. It fails with a
// *Fault that says how far it came, and then nothing is mapped. Where the guest
// has asked for faults to read as zero and ignore writes, the segment is memory
// of its own. After a stall all of the range is translated anew.
func (e *Endpoint) Map(iova uint64, n int, write bool, buf [][]byte) (Mapping, error) {
	return e.With(Attrs{}).Map(iova, n, write, buf)
}

// Map is Endpoint.Map with the port's attributes.
func (p Port) Map(iova uint64, n int, write bool, buf [][]byte) (Mapping, error) {
	a := p.access(write)
	fail := func(done int, f *Fault) (Mapping, error) {
		return Mapping{}, f.at(iova+uint64(done), done, &a)
	}
	if n < 0 || n > MaxMap {
		return fail(0, &Fault{Err: fmt.Errorf("%w: %d bytes", ErrTooLong, n)})
	}
	var ignored []int
	for {
		m, done, f := p.tryMap(iova, n, &a, buf, ignored)
		if f == nil {
			return m, nil
		}
		switch f.wait() {
		case bridge.Retry:
		case bridge.TerminateRAZWI:
			ignored = append(ignored, done)
		default:
			return fail(done, f)
		}
	}
}

// tryMap is Map, up to the first fault: what stalls must not hold up the withdrawal
// of what was mapped before it. Parts that the guest had terminated as RAZ/WI, after
// they had stalled, are in ignored, by their offsets.
func (p Port) tryMap(iova uint64, n int, a *access, buf [][]byte, ignored []int) (Mapping, int, *Fault) {
	b, section := p.ep.begin()
	if b == nil {
		return Mapping{}, 0, &Fault{Err: bridge.ErrClosed}
	}
	m := Mapping{Segments: buf, section: section}
	for done := 0; done < n; {
		mem, f := b.mapPart(iova+uint64(done), n-done, a, slices.Contains(ignored, done))
		if f != nil {
			m.Release()
			return Mapping{}, done, f
		}
		m.add(mem, len(buf))
		done += len(mem)
	}
	for i, s := range m.Segments[len(buf):] {
		m.Segments[len(buf)+i] = slices.Clip(s) // there is more of the slot behind it
	}
	return m, n, nil
}

// mapPart is the memory of what is translated alike and lies in one piece. With
// ignored, what would stall is RAZ/WI.
func (b *binding) mapPart(iova uint64, n int, a *access, ignored bool) ([]byte, *Fault) {
	if b.host.mapper == nil {
		return nil, &Fault{StreamID: b.sid, Err: fmt.Errorf("guest memory has no slices: %w", errors.ErrUnsupported)}
	}
	t, r := b.translate(iova, a)
	if r != nil {
		own := make([]byte, toPageEnd(n, iova))
		if ignored && r.stall {
			return own, nil
		}
		if _, f := b.refuse(own, iova, r, a); f != nil {
			return nil, f
		}
		return own, nil
	}
	at := guestmem.GPA(t.pa)
	mem, err := b.host.mapper.Slice(at, int(min(uint64(n), t.len)), a.write)
	if err != nil {
		return nil, b.noMemory(at, err)
	}
	return mem, nil
}

// add appends memory, to the last segment of those from first on if it is in
// the same slot, and goes on from there.
func (m *Mapping) add(mem []byte, first int) {
	if last := len(m.Segments) - 1; last >= first {
		s := m.Segments[last]
		if all := len(s) + len(mem); all <= cap(s) && &s[:all][len(s)] == &mem[0] {
			m.Segments[last] = s[:all]
			return
		}
	}
	m.Segments = append(m.Segments, mem)
}

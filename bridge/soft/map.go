package soft

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// MaxMap is the largest size of a Mapping, in bytes.
const MaxMap = 4 << 20

// ErrTooLong means that the size of a Mapping is negative or above MaxMap.
var ErrTooLong = errors.New("size of a mapping out of range")

// Mapping is guest memory that a device model uses: it is a DMA that lasts until Release. A Mapping
// must not be copied.
type Mapping struct {
	// Segments are the memory in the order of the IOVAs. They are valid until Release.
	// Memory that is adjacent in this process is one segment.
	Segments [][]byte
	section  guestmem.Section
}

// Release ends the DMA. The segments must not be used after it. A second Release has no effect.
func (m *Mapping) Release() {
	section := m.section
	*m = Mapping{}
	if section != (guestmem.Section{}) {
		section.Leave()
	}
}

// Map returns n bytes of guest memory at iova, for reading in place or, with write, for writing.
// The caller must Release the Mapping; otherwise the guest hangs. Map appends the segments to buf,
// which may be nil, and allocates only if buf is too small. It requires memory that is a
// guestmem.Mapper; otherwise it fails with errors.ErrUnsupported.
//
// To the SMMU a Mapping is one DMA from Map to Release. Invalidations, and thus the guest's
// CMD_SYNC, wait for Release. The removal of memory, Attach and Detach wait for it, too. Hold a
// Mapping only briefly, such as for a read from a file, and never while waiting for the guest. Its
// holder must not wait for anything that waits for the SMMU. A Mapping of 0 bytes holds nothing.
//
// The whole range counts as accessed, and with write as written. On failure Map maps nothing and
// returns a *Fault with the number of bytes translated. If the guest configured faults as RAZ/WI,
// the segment is scratch memory. After a stall Map translates the whole range again.
func (e *Endpoint) Map(iova uint64, n int, write bool, buf [][]byte) (Mapping, error) {
	return e.With(Attrs{}).Map(iova, n, write, buf)
}

// Map maps as Endpoint.Map does, with the port's attributes.
func (p Port) Map(iova uint64, n int, write bool, buf [][]byte) (Mapping, error) {
	a := p.access(write)
	fail := func(done int, f *Fault) (Mapping, error) {
		return Mapping{}, p.ep.failed(f).at(iova+uint64(done), done, &a)
	}
	if n < 0 || n > MaxMap {
		return fail(0, p.ep.fault(fmt.Errorf("%w: %d bytes", ErrTooLong, n)))
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

// tryMap maps up to the first fault. On a fault it leaves its section: a stalled transaction must
// not delay the invalidation of the parts mapped before it. ignored holds the offsets of parts that
// stalled and that the guest then terminated as RAZ/WI.
func (p Port) tryMap(iova uint64, n int, a *access, buf [][]byte, ignored []int) (Mapping, int, *Fault) {
	b, section := p.ep.begin()
	if b == nil {
		return Mapping{}, 0, &Fault{Err: ErrNotAttached}
	}
	if n == 0 {
		section.Leave()
		return Mapping{Segments: buf}, 0, nil
	}
	m := Mapping{Segments: buf, section: section}
	var u run
	large := n > minRun
	for done := 0; done < n; {
		if large && done > 0 {
			if mem := u.memory(section, b, iova+uint64(done), n-done, a); mem != nil {
				m.add(mem, len(buf))
				done += len(mem)
				continue
			}
			large = false
		}
		mem, f := b.mapPart(section, iova+uint64(done), n-done, a, slices.Contains(ignored, done))
		if f != nil {
			m.Release()
			return Mapping{}, done, f
		}
		p.ep.count(section, 1, len(mem), a.write)
		m.add(mem, len(buf))
		done += len(mem)
	}
	for i, s := range m.Segments[len(buf):] {
		m.Segments[len(buf)+i] = slices.Clip(s) // the slot's memory continues after it
	}
	return m, n, nil
}

// mapPart returns memory that has one translation and lies in one piece. With ignored, it
// handles a fault that would stall as RAZ/WI.
func (b *binding) mapPart(s guestmem.Section, iova uint64, n int, a *access, ignored bool) ([]byte, *Fault) {
	if b.host.mapper == nil {
		return nil, b.fault(fmt.Errorf("guest memory has no slices: %w", errors.ErrUnsupported))
	}
	t, r := b.translate(s, iova, a)
	if r != nil {
		scratch := make([]byte, toPageEnd(n, iova))
		if ignored && r.stall {
			return scratch, nil
		}
		if _, f := b.refuse(scratch, iova, r, a); f != nil {
			return nil, f
		}
		return scratch, nil
	}
	at := guestmem.GPA(t.pa)
	mem, err := b.host.mapper.Slice(at, int(min(uint64(n), t.len)), a.write)
	if err != nil {
		return nil, b.noMemory(at, err)
	}
	return mem, nil
}

// add appends memory. It extends the last segment from first on, if the memory follows it in the
// same slot.
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

package soft

// Vec is an element of a scatter list: the bytes that a device moves from or to an IOVA.
type Vec struct {
	IOVA uint64
	Buf  []byte
}

// ReadVec reads the elements of a scatter list in order, as ReadAt does for each. Elements in pages
// that recent accesses reached cost less than with ReadAt: they share a read-side critical section.
// On failure ReadVec returns a *Fault whose Done counts the bytes of all earlier elements, too. The
// elements after the failed one are not read.
func (e *Endpoint) ReadVec(list []Vec) error { return e.With(Attrs{}).ReadVec(list) }

// WriteVec writes the elements of a scatter list in order. See ReadVec.
func (e *Endpoint) WriteVec(list []Vec) error { return e.With(Attrs{}).WriteVec(list) }

// ReadVec reads as Endpoint.ReadVec does, with the port's attributes.
func (p Port) ReadVec(list []Vec) error {
	a := p.access(false)
	return p.ep.dmaVec(list, &a)
}

// WriteVec writes as Endpoint.WriteVec does, with the port's attributes.
func (p Port) WriteVec(list []Vec) error {
	a := p.access(true)
	return p.ep.dmaVec(list, &a)
}

// dmaVec moves the elements of a list. It leaves its section after maxRun bytes, since invalidations
// wait for it, and at each element that the micro-TLB does not cover.
func (e *Endpoint) dmaVec(list []Vec, a *access) error {
	total := 0
	for len(list) > 0 {
		b, section := e.begin()
		for inSection := 0; len(list) > 0 && inSection < maxRun; list = list[1:] {
			v := &list[0]
			if len(v.Buf) == 0 {
				continue
			}
			mem, count := b.microLookup(section, v.IOVA, a.who())
			if len(mem) >= len(v.Buf) {
				count.addOwn(1, move(v.Buf, mem, a.write))
			} else {
				if f := e.dmaInParts(b, section, mem, v.Buf, v.IOVA, a); f != nil {
					f.Done += total
					return f
				}
				b, section = e.begin()
			}
			total += len(v.Buf)
			inSection += len(v.Buf)
		}
		section.Leave()
	}
	return nil
}

package virtio

import "io"

// Segment is the memory of a descriptor. It does not extend past the end of the address space.
type Segment struct {
	Addr uint64
	Len  uint32
}

// Segments is the readable or the writable part of a request.
type Segments []Segment

// Size returns the number of bytes.
func (s Segments) Size() (n uint64) {
	for _, seg := range s {
		n += uint64(seg.Len)
	}
	return n
}

// stream accesses segments in order, as an io.Reader or io.Writer, or by transfer. It fails at the
// end of the segments, and makes no short transfers.
type stream struct {
	dma  DMA
	rest Segments
	at   uint32 // within the first of rest
}

// newStream returns a stream that starts at offset skip.
func newStream(dma DMA, s Segments, skip uint64) *stream {
	for len(s) > 0 && skip >= uint64(s[0].Len) {
		skip -= uint64(s[0].Len)
		s = s[1:]
	}
	return &stream{dma: dma, rest: s, at: uint32(skip)}
}

func (s *stream) Read(p []byte) (int, error)  { return s.move(p, s.dma.ReadAt) }
func (s *stream) Write(p []byte) (int, error) { return s.move(p, s.dma.WriteAt) }

func (s *stream) move(p []byte, access func(p []byte, addr uint64) error) (int, error) {
	done := 0
	for done < len(p) {
		addr, n, err := s.take(uint64(len(p) - done))
		if err != nil {
			return done, err
		}
		if err := access(p[done:done+n], addr); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// take returns the next bytes that lie in one segment, at least one and at most limit, and advances
// past them.
func (s *stream) take(limit uint64) (addr uint64, n int, err error) {
	for len(s.rest) > 0 {
		seg := s.rest[0]
		if left := seg.Len - s.at; left > 0 {
			addr = seg.Addr + uint64(s.at)
			n = int(min(limit, uint64(left)))
			s.at += uint32(n)
			return addr, n, nil
		}
		s.rest, s.at = s.rest[1:], 0
	}
	return 0, 0, io.ErrUnexpectedEOF
}

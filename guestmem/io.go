package guestmem

import (
	"errors"
	"io"
	"math"
)

// FromIO makes Memory of a reader and a writer whose offsets are guest-physical
// addresses, such as a file of the guest's RAM. Without a writer the memory is
// read-only. What lies at the end of the reader or beyond is unmapped. Atomicity
// is what the two give.
func FromIO(r io.ReaderAt, w io.WriterAt) Memory { return ioMemory{r, w} }

type ioMemory struct {
	r io.ReaderAt
	w io.WriterAt
}

func (m ioMemory) ReadAt(p []byte, gpa GPA) error {
	if err := checkOffset(opRead, gpa, len(p)); err != nil {
		return err
	}
	n, err := m.r.ReadAt(p, int64(gpa))
	if errors.Is(err, io.EOF) {
		err = nil // a reader may say so along with its last byte
		if n < len(p) {
			err = ErrUnmapped
		}
	}
	return ioError(opRead, gpa, len(p), n, err)
}

func (m ioMemory) WriteAt(p []byte, gpa GPA) error {
	if m.w == nil {
		return &AccessError{opWrite, gpa, len(p), ErrReadOnly}
	}
	if err := checkOffset(opWrite, gpa, len(p)); err != nil {
		return err
	}
	n, err := m.w.WriteAt(p, int64(gpa))
	return ioError(opWrite, gpa, len(p), n, err)
}

// checkOffset refuses what an int64 offset cannot reach.
func checkOffset(op string, gpa GPA, n int) error {
	if gpa > math.MaxInt64 || uint64(n) > uint64(math.MaxInt64-gpa) {
		return &AccessError{op, gpa, n, ErrUnmapped}
	}
	return nil
}

// ioError is the error of an access that moved n of size bytes, or says so.
func ioError(op string, gpa GPA, size, n int, err error) error {
	switch {
	case err == nil && n == size:
		return nil
	case err == nil:
		err = io.ErrUnexpectedEOF // short without a word
	}
	if n < 0 || n >= size {
		n = 0 // no count to rely on
	}
	return &AccessError{op, gpa + GPA(n), size, err}
}

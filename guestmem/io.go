package guestmem

import (
	"errors"
	"io"
	"math"

	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
)

// FromIO returns Memory over a reader and a writer whose offsets are guest-physical addresses, such
// as a file of the guest's RAM. Addresses at and beyond the end of the reader are unmapped. If w is
// nil, the memory is read-only. Accesses are as atomic as r and w make them.
//
// FromIO fails if r is nil, or if r or w holds a nil pointer.
func FromIO(r io.ReaderAt, w io.WriterAt) (Memory, error) {
	if nilcheck.IsNil(r) {
		return nil, errors.New("guestmem: memory from a reader: nil reader")
	}
	if w != nil && nilcheck.IsNil(w) {
		return nil, errors.New("guestmem: memory from a writer: nil pointer (pass nil for read-only memory)")
	}
	return ioMemory{r, w}, nil
}

type ioMemory struct {
	r io.ReaderAt
	w io.WriterAt // nil if read-only
}

func (m ioMemory) ReadAt(p []byte, gpa GPA) error {
	if err := checkOffset(opRead, gpa, len(p)); err != nil {
		return err
	}
	n, err := m.r.ReadAt(p, int64(gpa))
	if errors.Is(err, io.EOF) {
		err = nil // io.EOF may come with the last byte
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

// checkOffset returns an error if n bytes from gpa on exceed the range of int64 offsets.
func checkOffset(op string, gpa GPA, n int) error {
	if gpa > math.MaxInt64 || uint64(n) > uint64(math.MaxInt64-gpa) {
		return &AccessError{op, gpa, n, ErrUnmapped}
	}
	return nil
}

// ioError returns the error of an access that moved n of size bytes, or nil if it moved all.
func ioError(op string, gpa GPA, size, n int, err error) error {
	switch {
	case err == nil && n == size:
		return nil
	case err == nil:
		err = io.ErrUnexpectedEOF // a short transfer without an error
	}
	if n < 0 || n >= size {
		n = 0 // the count is impossible
	}
	return &AccessError{op, gpa + GPA(n), size, err}
}

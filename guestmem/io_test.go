package guestmem

import (
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func fromIO(t *testing.T, r io.ReaderAt, w io.WriterAt) Memory {
	t.Helper()
	m, err := FromIO(r, w)
	require.NoError(t, err)
	return m
}

func TestFromIOReadsWhatItWrote(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "ram"))
	require.NoError(t, err)
	defer file.Close()
	m := fromIO(t, file, file)

	require.NoError(t, m.WriteAt([]byte("words"), 0x10))
	p := make([]byte, 5)
	require.NoError(t, m.ReadAt(p, 0x10))
	assert.Equal(t, "words", string(p))
}

func TestFromIOIsUnmappedBeyondTheEndOfTheReader(t *testing.T) {
	m := fromIO(t, strings.NewReader("0123456789"), nil)
	for _, c := range []struct {
		name string
		gpa  GPA
		n    int
		want error
	}{
		{"all bytes", 0, 10, nil},
		{"across the end", 8, 4, &AccessError{"read", 10, 4, ErrUnmapped}},
		{"at the end", 10, 1, &AccessError{"read", 10, 1, ErrUnmapped}},
		{"beyond", 0x1000, 1, &AccessError{"read", 0x1000, 1, ErrUnmapped}},
		{"beyond any offset", 1 << 63, 1, &AccessError{"read", 1 << 63, 1, ErrUnmapped}},
		{"across the last offset", math.MaxInt64, 1, &AccessError{"read", math.MaxInt64, 1, ErrUnmapped}},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, m.ReadAt(make([]byte, c.n), c.gpa))
		})
	}
}

func TestFromIOWithoutAWriterIsReadOnly(t *testing.T) {
	m := fromIO(t, strings.NewReader("0123456789"), nil)
	assert.Equal(t, &AccessError{"write", 4, 1, ErrReadOnly}, m.WriteAt(make([]byte, 1), 4))
}

func TestFromIORefusesNil(t *testing.T) {
	reader := strings.NewReader("")
	for _, c := range []struct {
		name string
		r    io.ReaderAt
		w    io.WriterAt
		want string
	}{
		{"no reader", nil, nil, "guestmem: memory from a reader: nil reader"},
		{"a reader that is a nil pointer", (*os.File)(nil), nil, "guestmem: memory from a reader: nil reader"},
		{"a writer that is a nil pointer", reader, (*os.File)(nil), "guestmem: memory from a writer: nil pointer (pass nil for read-only memory)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := FromIO(c.r, c.w)
			assert.Nil(t, m)
			assert.EqualError(t, err, c.want)
		})
	}
}

// backing is a reader and writer that returns the test's values.
type backing struct {
	n   int
	err error
}

func (b backing) ReadAt([]byte, int64) (int, error)  { return b.n, b.err }
func (b backing) WriteAt([]byte, int64) (int, error) { return b.n, b.err }

func TestFromIOChecksTheCountAndErrorOfEachTransfer(t *testing.T) {
	disk := errors.New("disk on fire")
	for _, c := range []struct {
		name        string
		b           backing
		read, write error
	}{
		{"all", backing{8, nil}, nil, nil},
		{"all, with io.EOF", backing{8, io.EOF}, nil, &AccessError{"write", 0x100, 8, io.EOF}},
		{"part, with an error", backing{3, disk}, &AccessError{"read", 0x103, 8, disk}, &AccessError{"write", 0x103, 8, disk}},
		{"part, without an error", backing{3, nil}, &AccessError{"read", 0x103, 8, io.ErrUnexpectedEOF}, &AccessError{"write", 0x103, 8, io.ErrUnexpectedEOF}},
		{"all, with an error", backing{8, disk}, &AccessError{"read", 0x100, 8, disk}, &AccessError{"write", 0x100, 8, disk}},
		{"an impossible count", backing{9, nil}, &AccessError{"read", 0x100, 8, io.ErrUnexpectedEOF}, &AccessError{"write", 0x100, 8, io.ErrUnexpectedEOF}},
		{"a negative count", backing{-1, nil}, &AccessError{"read", 0x100, 8, io.ErrUnexpectedEOF}, &AccessError{"write", 0x100, 8, io.ErrUnexpectedEOF}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := fromIO(t, c.b, c.b)
			assert.Equal(t, c.read, m.ReadAt(make([]byte, 8), 0x100))
			assert.Equal(t, c.write, m.WriteAt(make([]byte, 8), 0x100))
		})
	}
}

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

func TestFromIO(t *testing.T) {
	file, err := os.Create(filepath.Join(t.TempDir(), "ram"))
	require.NoError(t, err)
	defer file.Close()
	m := FromIO(file, file)

	require.NoError(t, m.WriteAt([]byte("words"), 0x10))
	p := make([]byte, 5)
	require.NoError(t, m.ReadAt(p, 0x10))
	assert.Equal(t, "words", string(p))
}

func TestFromIOEndsWhereTheReaderEnds(t *testing.T) {
	m := FromIO(strings.NewReader("0123456789"), nil)
	for _, c := range []struct {
		name string
		gpa  GPA
		n    int
		want error
	}{
		{"all of it", 0, 10, nil},
		{"into the end", 8, 4, &AccessError{"read", 10, 4, ErrUnmapped}},
		{"at the end", 10, 1, &AccessError{"read", 10, 1, ErrUnmapped}},
		{"beyond", 0x1000, 1, &AccessError{"read", 0x1000, 1, ErrUnmapped}},
		{"beyond any offset", 1 << 63, 1, &AccessError{"read", 1 << 63, 1, ErrUnmapped}},
		{"across the last offset", math.MaxInt64, 1, &AccessError{"read", math.MaxInt64, 1, ErrUnmapped}},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, m.ReadAt(make([]byte, c.n), c.gpa))
		})
	}
	assert.Equal(t, &AccessError{"write", 4, 1, ErrReadOnly}, m.WriteAt(make([]byte, 1), 4))
}

// backing is a reader and writer that says what a test wants.
type backing struct {
	n   int
	err error
}

func (b backing) ReadAt([]byte, int64) (int, error)  { return b.n, b.err }
func (b backing) WriteAt([]byte, int64) (int, error) { return b.n, b.err }

func TestFromIOTakesNoAnswerOnTrust(t *testing.T) {
	disk := errors.New("disk on fire")
	for _, c := range []struct {
		name        string
		b           backing
		read, write error
	}{
		{"all", backing{8, nil}, nil, nil},
		{"all, and the end", backing{8, io.EOF}, nil, &AccessError{"write", 0x100, 8, io.EOF}},
		{"part, with a reason", backing{3, disk}, &AccessError{"read", 0x103, 8, disk}, &AccessError{"write", 0x103, 8, disk}},
		{"part, without one", backing{3, nil}, &AccessError{"read", 0x103, 8, io.ErrUnexpectedEOF}, &AccessError{"write", 0x103, 8, io.ErrUnexpectedEOF}},
		{"all, yet an error", backing{8, disk}, &AccessError{"read", 0x100, 8, disk}, &AccessError{"write", 0x100, 8, disk}},
		{"more than asked for", backing{9, nil}, &AccessError{"read", 0x100, 8, io.ErrUnexpectedEOF}, &AccessError{"write", 0x100, 8, io.ErrUnexpectedEOF}},
		{"less than nothing", backing{-1, nil}, &AccessError{"read", 0x100, 8, io.ErrUnexpectedEOF}, &AccessError{"write", 0x100, 8, io.ErrUnexpectedEOF}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := FromIO(c.b, c.b)
			assert.Equal(t, c.read, m.ReadAt(make([]byte, 8), 0x100))
			assert.Equal(t, c.write, m.WriteAt(make([]byte, 8), 0x100))
		})
	}
}

package transcript

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-vsmmu/vsmmuv3/internal/nilcheck"
	"github.com/klauspost/compress/zstd"
)

// window bounds the history that decompression keeps, in bytes.
const window = 1 << 20

// Reader reads a transcript entry by entry. Its memory does not depend on the length of the
// transcript.
type Reader struct {
	header Header
	v1     bool
	source *source
	zstd   *zstd.Decoder
	frames *bufio.Reader
	frame  []byte
	n      int    // entries so far
	kept   uint64 // bytes of memory that all entries so far take
	at     time.Duration
	err    error // of all further calls of Next
}

// source keeps the error of a reader, to distinguish it from an error of the transcript.
type source struct {
	r   io.Reader
	err error // other than io.EOF
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// NewReader returns a reader of the transcript in r, after it has read the header. Its error
// matches ErrForeign, ErrNewer, ErrCut or ErrCorrupt, or wraps the error of r. Close releases the
// reader.
func NewReader(r io.Reader) (*Reader, error) {
	if nilcheck.IsNil(r) {
		return nil, fmt.Errorf("transcript: read header: nil reader of type %T", r)
	}
	t, err := newReader(&source{r: r})
	if err != nil {
		return nil, fmt.Errorf("transcript: read header: %w", err)
	}
	return t, nil
}

func newReader(s *source) (*Reader, error) {
	version, err := readPreamble(s)
	if err != nil {
		return nil, err
	}
	d, err := zstd.NewReader(s, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	t := &Reader{v1: version == 1, source: s, zstd: d, frames: bufio.NewReader(d)}
	b, err := t.next()
	if err == nil {
		if err = json.Unmarshal(b, &t.header); err != nil {
			err = fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
	}
	if err != nil {
		d.Close()
		return nil, err
	}
	return t, nil
}

// Header returns the header of the transcript.
func (r *Reader) Header() Header { return r.header }

// Close releases the memory of the decompressor. It does not close the underlying reader.
func (r *Reader) Close() { r.zstd.Close() }

// Next returns the next entry. After an End it returns io.EOF. Its error matches ErrCut if the
// transcript ends without an End, and ErrCorrupt if an entry is invalid; it wraps any error of the
// underlying reader. Every later call returns the same error.
func (r *Reader) Next() (Entry, error) {
	if r.err != nil {
		return Entry{}, r.err
	}
	e, err := r.entry()
	if err != nil {
		r.err = fmt.Errorf("transcript: read entry %d: %w", r.n, err)
		return Entry{}, r.err
	}
	r.n++
	if _, ok := e.Body.(*End); ok {
		r.err = io.EOF
	}
	return e, nil
}

func (r *Reader) entry() (Entry, error) {
	b, err := r.next()
	if err != nil {
		return Entry{}, err
	}
	if len(b) == 0 {
		return Entry{}, fmt.Errorf("%w: empty entry", ErrCorrupt)
	}
	if int(b[0]) >= len(kinds) || kinds[b[0]] == nil {
		return Entry{}, fmt.Errorf("%w: unknown kind %d", ErrCorrupt, b[0])
	}
	body := kinds[b[0]]()
	c := &coder{b: b[1:], decode: true, v1: r.v1}
	later := micros(c.uvarint())
	body.question(c)
	body.answer(c)
	if c.err == nil && len(c.b) != 0 {
		c.err = errors.New("entry ends late")
	}
	if c.err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrCorrupt, c.err)
	}
	if r.at += later; r.at < 0 {
		return Entry{}, fmt.Errorf("%w: time out of range", ErrCorrupt)
	}
	r.kept += sizes[b[0]] + c.kept
	return Entry{At: r.at, Body: body}, nil
}

// next returns the next frame, which is valid until the next call.
func (r *Reader) next() ([]byte, error) {
	n, err := binary.ReadUvarint(r.frames)
	if err != nil {
		return nil, r.broken(err)
	}
	if n > maxFrame {
		return nil, fmt.Errorf("%w: frame of %d bytes", ErrCorrupt, n)
	}
	if uint64(cap(r.frame)) < n {
		r.frame = make([]byte, n)
	}
	r.frame = r.frame[:n]
	if _, err := io.ReadFull(r.frames, r.frame); err != nil {
		return nil, r.broken(err)
	}
	return r.frame, nil
}

// broken returns the error that describes a failed reader, a transcript that ends early, or an
// invalid one.
func (r *Reader) broken(err error) error {
	switch {
	case r.source.err != nil:
		return r.source.err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return ErrCut
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// Transcript is a whole transcript in memory.
type Transcript struct {
	Header
	Entries []Entry
	// Cut is why the transcript ends before the device's Close. It is empty for a complete
	// transcript.
	Cut string
}

// Bounds of a Transcript. A boot of Linux has some tens of thousands of entries of about 100 bytes.
// Without bounds, a compressed file of a few MiB could claim any amount of memory.
const (
	maxEntries = 1 << 22
	maxMemory  = 512 << 20
)

// Read returns the transcript in r. It reads up to 2^22 entries that take up to 512 MiB of memory;
// a Reader has no such limits. For a transcript that is cut off, Read returns the entries before
// the cut and sets Cut. If the transcript is invalid or too long, or r fails, Read returns the
// entries before that with the error. The errors are those of NewReader and Reader.Next. The error
// for a transcript that is too long matches ErrCorrupt.
func Read(r io.Reader) (*Transcript, error) { return read(r, maxEntries, maxMemory) }

func read(r io.Reader, entries int, memory uint64) (*Transcript, error) {
	in, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	t := &Transcript{Header: in.Header()}
	for {
		e, err := in.Next()
		switch {
		case errors.Is(err, io.EOF):
			return t, nil
		case errors.Is(err, ErrCut):
			t.Cut = "the file ends"
			return t, nil
		case err != nil:
			return t, err
		case len(t.Entries) == entries:
			return t, fmt.Errorf("transcript: read: %w: more than %d entries", ErrCorrupt, entries)
		case in.kept > memory:
			return t, fmt.Errorf("transcript: read: %w: more than %d bytes of memory", ErrCorrupt, memory)
		}
		if end, ok := e.Body.(*End); ok {
			t.Cut = end.Cut
		}
		t.Entries = append(t.Entries, e)
	}
}

// Complete reports whether the transcript extends to the device's Close.
func (t *Transcript) Complete() bool { return t.Cut == "" }

// Lasted returns the time of the last entry.
func (t *Transcript) Lasted() time.Duration {
	if n := len(t.Entries); n > 0 {
		return t.Entries[n-1].At
	}
	return 0
}

package transcript

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/klauspost/compress/zstd"
)

// window bounds what decompression keeps, in bytes.
const window = 1 << 20

// Reader reads a transcript entry by entry, in memory that does not depend on
// its length.
type Reader struct {
	header Header
	v1     bool
	zstd   *zstd.Decoder
	frames *bufio.Reader
	frame  []byte
	size   uint64 // of all frames so far, in bytes
	at     time.Duration
	err    error // of all further calls of Next
}

// NewReader reads the header. Its error matches ErrForeign, ErrNewer, ErrCut or
// ErrCorrupt, or is r's.
func NewReader(r io.Reader) (*Reader, error) {
	version, err := readPreamble(r)
	if err != nil {
		return nil, err
	}
	d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	t := &Reader{v1: version == 1, zstd: d, frames: bufio.NewReader(d)}
	b, err := t.next()
	if err != nil {
		d.Close()
		return nil, err
	}
	if err := json.Unmarshal(b, &t.header); err != nil {
		d.Close()
		return nil, fmt.Errorf("%w: its header: %w", ErrCorrupt, err)
	}
	return t, nil
}

// Header is what the transcript says of the device.
func (r *Reader) Header() Header { return r.header }

// Close gives back what reading took. It does not close the reader below.
func (r *Reader) Close() { r.zstd.Close() }

// Next returns the next entry. After End it returns io.EOF; before it an error
// that matches ErrCut where the transcript simply ends.
func (r *Reader) Next() (Entry, error) {
	if r.err != nil {
		return Entry{}, r.err
	}
	e, err := r.entry()
	switch {
	case err != nil:
		r.err = err
	default:
		if _, ok := e.Body.(*End); ok {
			r.err = io.EOF
		}
	}
	return e, err
}

func (r *Reader) entry() (Entry, error) {
	b, err := r.next()
	if err != nil {
		return Entry{}, err
	}
	if len(b) == 0 || int(b[0]) >= len(kinds) || kinds[b[0]] == nil {
		return Entry{}, fmt.Errorf("%w: an entry of an unknown kind", ErrCorrupt)
	}
	body := kinds[b[0]]()
	c := &coder{b: b[1:], decode: true, v1: r.v1}
	later := micros(c.uvarint())
	body.question(c)
	body.answer(c)
	if c.err == nil && len(c.b) != 0 {
		c.err = errors.New("an entry ends late")
	}
	if c.err != nil {
		return Entry{}, fmt.Errorf("%w: %w", ErrCorrupt, c.err)
	}
	if r.at += later; r.at < 0 {
		return Entry{}, fmt.Errorf("%w: it lasts for centuries", ErrCorrupt)
	}
	return Entry{At: r.at, Body: body}, nil
}

// next returns the next frame, which is valid until the next call.
func (r *Reader) next() ([]byte, error) {
	n, err := binary.ReadUvarint(r.frames)
	if err != nil {
		return nil, r.broken(err)
	}
	if n > maxFrame {
		return nil, fmt.Errorf("%w: a frame of %d bytes", ErrCorrupt, n)
	}
	if uint64(cap(r.frame)) < n {
		r.frame = make([]byte, n)
	}
	r.frame = r.frame[:n]
	r.size += n
	if _, err := io.ReadFull(r.frames, r.frame); err != nil {
		return nil, r.broken(err)
	}
	return r.frame, nil
}

// broken tells a transcript that ends too early from one that is wrong.
func (r *Reader) broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return ErrCut
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// Transcript is a whole transcript in memory.
type Transcript struct {
	Header
	Entries []Entry
	// Cut says why the transcript ends before the device did; empty if it does
	// not.
	Cut string
}

// What bounds a Transcript. A boot of Linux has some tens of thousands of entries, of
// 20 bytes on average; but a file of a few MiB may say of itself, compressed, that it
// has entries of 64 KiB without end.
const (
	maxEntries = 1 << 22
	maxBytes   = 128 << 20 // of its frames
)

// Read reads a transcript of up to 2^22 entries and 128 MiB, uncompressed; what is
// longer is for a Reader. One that is cut off is read up to there, and says so
// in Cut; of one that is corrupt or too long, what comes before is returned with the
// error, which matches ErrCorrupt.
func Read(r io.Reader) (*Transcript, error) { return read(r, maxEntries, maxBytes) }

func read(r io.Reader, entries int, bytes uint64) (*Transcript, error) {
	in, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	t := &Transcript{Header: in.Header()}
	for {
		e, err := in.Next()
		switch {
		case err == io.EOF:
			return t, nil
		case errors.Is(err, ErrCut):
			t.Cut = "the file ends"
			return t, nil
		case err != nil:
			return t, fmt.Errorf("after %d entries: %w", len(t.Entries), err)
		case len(t.Entries) == entries:
			return t, fmt.Errorf("%w: more than %d entries", ErrCorrupt, entries)
		case in.size > bytes:
			return t, fmt.Errorf("%w: more than %d bytes", ErrCorrupt, bytes)
		}
		if end, ok := e.Body.(*End); ok {
			t.Cut = end.Cut
		}
		t.Entries = append(t.Entries, e)
	}
}

// Complete reports whether the transcript goes to the device's end.
func (t *Transcript) Complete() bool { return t.Cut == "" }

// Lasted is the time of the last entry.
func (t *Transcript) Lasted() time.Duration {
	if n := len(t.Entries); n > 0 {
		return t.Entries[n-1].At
	}
	return 0
}

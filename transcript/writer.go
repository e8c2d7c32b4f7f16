package transcript

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
)

// DefaultBuffer is the number of bytes that a Recorder keeps in memory while its writer is slow.
const DefaultBuffer = 16 << 20

// flushEvery bounds the age of entries that are not written yet.
const flushEvery = 250 * time.Millisecond

// drainAt is the number of buffered bytes at which the writer starts before the next flush.
const drainAt = 256 << 10

// sink is the writer of a transcript. It enforces the contract of io.Writer. It keeps the first
// error and writes nothing after it, so a transcript has no gaps even if the writer recovers.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (n int, err error) {
	if s.err != nil {
		return 0, s.err
	}
	n, s.err = s.w.Write(p)
	if s.err == nil && n != len(p) {
		s.err = io.ErrShortWrite
	}
	return min(max(n, 0), len(p)), s.err
}

// log takes entries in order and writes them in the background. Adding an entry waits only for a
// lock that is held while another entry is encoded. The transcript ends early if the writer cannot
// keep up or fails.
type log struct {
	begun time.Time
	limit int

	mu    sync.Mutex
	coder coder // of one entry
	frame []byte
	last  time.Duration
	buf   pending // entries that wait for the writer
	cut   string  // why entries are dropped; empty if they are not
	ended bool

	drain chan struct{}
	done  chan struct{}
	err   error // the first error of writing; valid once done is closed
}

// newLog writes the header, so that Record reports a writer that fails from the start.
func newLog(w io.Writer, h Header, limit int) (*log, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(head) > maxFrame {
		return nil, fmt.Errorf("header of %d bytes: the maximum is %d", len(head), maxFrame)
	}
	s := &sink{w: w}
	if _, err := s.Write(preamble()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCut, err)
	}
	z, err := zstd.NewWriter(s, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window),
		zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	if _, err = z.Write(append(binary.AppendUvarint(nil, uint64(len(head))), head...)); err == nil {
		err = z.Flush()
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCut, err)
	}
	l := &log{begun: time.Now(), limit: limit, drain: make(chan struct{}, 1), done: make(chan struct{})}
	go l.write(z, s)
	return l, nil
}

// add takes an entry.
func (l *log) add(b Body) { l.addLater(func() Body { return b }) }

// addLater takes the entry that make returns. make runs after all earlier entries are taken and
// before any later one.
func (l *log) addLater(make func() Body) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := make()
	if l.ended || l.cut != "" {
		return
	}
	if l.buf.size >= l.limit {
		l.stop("the writer could not keep up")
		return
	}
	l.put(b)
	if l.buf.size >= drainAt {
		l.wake()
	}
}

// put encodes an entry. l.mu is held.
func (l *log) put(b Body) {
	now := time.Since(l.begun).Truncate(time.Microsecond)
	l.coder.b = append(l.coder.b[:0], numbers[reflect.TypeOf(b)])
	l.coder.b = binary.AppendUvarint(l.coder.b, uint64((now-l.last)/time.Microsecond))
	b.question(&l.coder)
	b.answer(&l.coder)
	if size := len(l.coder.b); size > maxFrame {
		l.coder.b = nil
		l.stop(fmt.Sprintf("entry of %d bytes: the maximum is %d", size, maxFrame))
		return
	}
	l.last = now
	l.frame = binary.AppendUvarint(l.frame[:0], uint64(len(l.coder.b)))
	l.buf.add(l.frame)
	l.buf.add(l.coder.b)
}

// cutOff ends the transcript before the device ends, unless it has ended.
func (l *log) cutOff(why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended && l.cut == "" {
		l.stop(why)
	}
}

// stop ends the transcript before the device ends. l.mu is held.
func (l *log) stop(why string) {
	l.cut = why
	l.put(&End{Cut: why})
	l.wake()
}

func (l *log) wake() {
	select {
	case l.drain <- struct{}{}:
	default:
	}
}

// end adds the last entry and waits until everything is written.
func (l *log) end() error {
	l.mu.Lock()
	if !l.ended && l.cut == "" {
		l.put(&End{})
	}
	l.ended = true
	cut := l.cut
	l.mu.Unlock()
	l.wake()
	<-l.done
	switch {
	case cut != "" && l.err != nil:
		return fmt.Errorf("%w: %s: %w", ErrCut, cut, l.err)
	case cut != "":
		return fmt.Errorf("%w: %s", ErrCut, cut)
	case l.err != nil:
		return fmt.Errorf("%w: %w", ErrCut, l.err)
	}
	return nil
}

// write runs in the goroutine that owns the writer. It returns after the last entry or the first
// error.
func (l *log) write(z *zstd.Encoder, s *sink) {
	defer close(l.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var err error
	flushed := true // the compressor has no buffered data
	for last := false; err == nil && !last; {
		flush := false
		select {
		case <-tick.C:
			flush = true
		case <-l.drain:
		}
		l.mu.Lock()
		full := l.buf
		last = l.ended || l.cut != ""
		l.buf = pending{}
		l.mu.Unlock()

		if full.size > 0 {
			err = full.writeTo(z)
			flushed = false
		}
		if err == nil && flush && !flushed && !last {
			err = z.Flush()
			flushed = true
		}
	}
	if e := z.Close(); err == nil {
		err = e
	}
	if s.err != nil {
		err = s.err // the writer's own error, without the compressor's text
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// Nothing reads the buffers any more.
	_ = l.buf.writeTo(io.Discard)
	l.err, l.ended, l.coder.b = err, true, nil
}

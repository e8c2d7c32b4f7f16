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

// DefaultBuffer is how much a Recorder keeps in memory, in bytes, while its
// writer is slow.
const DefaultBuffer = 16 << 20

// flushEvery is how old what has not been written may become.
const flushEvery = 250 * time.Millisecond

// drainAt is how much is worth being compressed before that, in bytes.
const drainAt = 256 << 10

// log takes entries in order and writes them in the background. Whoever makes
// an entry waits for a lock that is held while another entry is encoded, and for
// nothing else: when the writer cannot keep up, the transcript ends.
type log struct {
	begun time.Time
	limit int

	mu    sync.Mutex
	coder coder // of one entry
	last  time.Duration
	buf   []byte // entries that wait to be written
	cut   string // why nothing is taken any more
	ended bool

	drain chan struct{}
	done  chan struct{}
	err   error // of writing; valid once done is closed
}

// newLog writes the header, so that a place that cannot be written to is known
// from the beginning.
func newLog(w io.Writer, h Header, limit int) (*log, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return nil, err
	}
	if len(head) > maxFrame {
		return nil, fmt.Errorf("transcript: a header of %d bytes", len(head))
	}
	if _, err := w.Write(preamble()); err != nil {
		return nil, err
	}
	z, err := zstd.NewWriter(w, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(window), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, err
	}
	if _, err = z.Write(append(binary.AppendUvarint(nil, uint64(len(head))), head...)); err == nil {
		err = z.Flush()
	}
	if err != nil {
		return nil, err
	}
	l := &log{begun: time.Now(), limit: limit, drain: make(chan struct{}, 1), done: make(chan struct{})}
	go l.write(z)
	return l, nil
}

// add takes an entry.
func (l *log) add(b Body) { l.addLater(func() Body { return b }) }

// addLater takes the entry that make returns, which is called when the entries
// before have been taken, and before any after.
func (l *log) addLater(make func() Body) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := make()
	if l.ended || l.cut != "" {
		return
	}
	if len(l.buf) >= l.limit {
		l.stop("the writer could not keep up")
		return
	}
	l.put(b)
	if len(l.buf) >= drainAt {
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
	if len(l.coder.b) > maxFrame {
		l.stop(fmt.Sprintf("an entry of %d bytes", len(l.coder.b)))
		return
	}
	l.last = now
	l.buf = append(binary.AppendUvarint(l.buf, uint64(len(l.coder.b))), l.coder.b...)
}

// stop ends the transcript before its time. l.mu is held.
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

// end puts the last entry and waits until everything is written.
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
	case l.err != nil:
		return fmt.Errorf("transcript: %w", l.err)
	case cut != "":
		return fmt.Errorf("%w: %s", ErrCut, cut)
	}
	return nil
}

// write is the goroutine that has the file to itself.
func (l *log) write(z *zstd.Encoder) {
	defer close(l.done)
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	var spare []byte
	flushed := true // the compressor holds nothing back
	for {
		flush := false
		select {
		case <-tick.C:
			flush = true
		case <-l.drain:
		}
		l.mu.Lock()
		full, last := l.buf, l.ended || l.cut != ""
		l.buf = spare[:0]
		l.mu.Unlock()

		if l.err == nil && len(full) > 0 {
			_, l.err = z.Write(full)
			flushed = false
		}
		if l.err == nil && flush && !flushed && !last {
			l.err = z.Flush()
			flushed = true
		}
		spare = full
		if l.err != nil || last {
			break
		}
	}
	if err := z.Close(); l.err == nil {
		l.err = err
	}
	// Nobody reads the buffer any more.
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
}

package console

import (
	"io"
	"sync"
)

// Answers holds the lines for the other end of a console. It implements io.ReadCloser. Send and
// Close are safe for concurrent use; one goroutine may Read.
type Answers struct {
	lines chan string
	rest  string // of the line that is read

	closed    chan struct{}
	closeOnce sync.Once
}

// NewAnswers returns Answers without a line.
func NewAnswers() *Answers {
	return &Answers{lines: make(chan string, 1), closed: make(chan struct{})}
}

// Send sends a line. It never waits: it drops the line if the last one has not been read.
func (a *Answers) Send(line string) {
	select {
	case a.lines <- line + "\n":
	default:
	}
}

// Read waits for a line, or for Close.
func (a *Answers) Read(p []byte) (int, error) {
	if a.rest == "" {
		select {
		case a.rest = <-a.lines:
		case <-a.closed:
			return 0, io.EOF
		}
	}
	n := copy(p, a.rest)
	a.rest = a.rest[n:]
	return n, nil
}

// Close ends Read. It may be called more than once.
func (a *Answers) Close() error {
	a.closeOnce.Do(func() { close(a.closed) })
	return nil
}

// Package console splits the output of a machine, of which nothing is known, into lines.
package console

import (
	"bytes"
)

// Writer gives each line that is written to it to Emit, without its end. A line longer than Max goes on in the next, so
// that a stream without ends of lines does not grow in memory. It is for one goroutine at a time.
type Writer struct {
	Max  int
	Emit func(line string)

	buf []byte
}

// Write never fails.
func (w *Writer) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		line, rest, ended := bytes.Cut(p, []byte("\n"))
		take := min(len(line), w.Max-len(w.buf))
		w.buf = append(w.buf, line[:take]...)
		switch {
		case take < len(line):
			w.Flush()
			p = p[take:]
			continue
		case ended:
			w.emit()
		}
		p = rest
	}
	return n, nil
}

// Flush emits the line begun, if there is one.
func (w *Writer) Flush() {
	if len(w.buf) > 0 {
		w.emit()
	}
}

func (w *Writer) emit() {
	w.Emit(string(bytes.TrimRight(w.buf, "\r")))
	w.buf = w.buf[:0]
}

// Package console splits a machine's output, which may be any bytes, into lines.
package console

import (
	"bytes"
)

// Writer calls Emit for each line written to it, without the line's end. It splits lines longer
// than Max, so that a stream without line ends does not grow in memory. It is not safe for
// concurrent use.
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

// Flush emits an incomplete last line.
func (w *Writer) Flush() {
	if len(w.buf) > 0 {
		w.emit()
	}
}

func (w *Writer) emit() {
	w.Emit(string(bytes.TrimRight(w.buf, "\r")))
	w.buf = w.buf[:0]
}

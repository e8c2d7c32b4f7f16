package cli

import (
	"cmp"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// Output is a standard output that remembers whether a write has failed.
type Output struct {
	io.Writer
	mu  sync.Mutex
	err error // the first one
}

// Write writes to the Writer and keeps its first error.
func (o *Output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.err = cmp.Or(o.err, err)
	}
	return n, err
}

// Err returns the first error of a write, or nil.
func (o *Output) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Coloured reports whether w is a terminal whose user accepts colours (https://no-color.org).
func Coloured(w io.Writer) bool {
	_, ok := window(w)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// Columns returns the width of output to w: the terminal's width, but at least 60, or 100 if w is
// not a terminal.
func Columns(w io.Writer) int {
	size, _ := window(w)
	if size.Col == 0 {
		return 100
	}
	return max(60, int(size.Col))
}

// Terminal reports whether f, a standard input or output, is a terminal.
func Terminal(f any) bool {
	file, ok := f.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

func window(w io.Writer) (size unix.Winsize, ok bool) {
	if out, is := w.(*Output); is {
		w = out.Writer
	}
	file, ok := w.(*os.File)
	if !ok {
		return size, false
	}
	got, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return size, false
	}
	return *got, true
}

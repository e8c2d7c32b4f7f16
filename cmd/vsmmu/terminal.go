package main

import (
	"cmp"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// output is the standard output, which remembers that a write has failed.
type output struct {
	io.Writer
	mu  sync.Mutex
	err error // the first one
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if err != nil {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.err = cmp.Or(o.err, err)
	}
	return n, err
}

func (o *output) failure() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// coloured reports whether output goes to a terminal whose user does not mind colours (https://no-color.org).
func coloured(w io.Writer) bool {
	_, ok := window(w)
	return ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// columns is how wide output may be: what its terminal has, unless that is too little for any table.
func columns(w io.Writer) int {
	size, _ := window(w)
	if size.Col == 0 {
		return 100 // no terminal, or one that does not say
	}
	return max(60, int(size.Col))
}

func window(w io.Writer) (size unix.Winsize, ok bool) {
	if out, is := w.(*output); is {
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

package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

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

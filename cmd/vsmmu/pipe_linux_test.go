package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// A shell passes a pipe as /dev/fd/N.
func TestTraceGoesToPipes(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	require.NoError(t, os.Symlink(fifo, filepath.Join(dir, "link")))
	for _, name := range []string{"", fifo, filepath.Join(dir, "link")} {
		var r *os.File
		var w *os.File
		var err error
		if name == "" {
			r, w, err = os.Pipe()
			require.NoError(t, err)
			name = fmt.Sprintf("/dev/fd/%d", w.Fd())
		} else {
			r, err = os.OpenFile(fifo, os.O_RDONLY|unix.O_NONBLOCK, 0)
			require.NoError(t, err)
		}
		trace := make(chan []byte)
		go func() {
			if w == nil { // without a writer, reads of a FIFO return EOF: wait for one
				_ = unix.SetNonblock(int(r.Fd()), false)
				poll := []unix.PollFd{{Fd: int32(r.Fd()), Events: unix.POLLIN}}
				_, _ = unix.Poll(poll, 10_000)
			}
			b, _ := io.ReadAll(r)
			trace <- b
		}()
		status, out, errs := command("replay", "-trace", name)
		if w != nil {
			require.NoError(t, w.Close())
		}
		assert.Equal(t, 0, status, errs)
		assert.Contains(t, out, "OK: ")
		assert.True(t, json.Valid(<-trace), name)
		require.NoError(t, r.Close())
	}
	is, err := os.Lstat(fifo)
	require.NoError(t, err)
	assert.Equal(t, os.ModeNamedPipe, is.Mode().Type(), "a pipe is not replaced")
}

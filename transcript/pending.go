package transcript

import (
	"io"

	"gvisor.dev/gvisor/pkg/buffer"
)

// pendingChunk is the size in bytes of the pieces of memory that pending takes from its pool.
const pendingChunk = 64 << 10

// pending holds encoded entries until the writer takes them. Its memory comes from a pool and goes
// back there, so that a burst of entries leaves none behind.
type pending struct {
	views []*buffer.View
	size  int
}

// add copies p to the end.
func (q *pending) add(p []byte) {
	q.size += len(p)
	for len(p) > 0 {
		last := len(q.views) - 1
		if last < 0 || q.views[last].AvailableSize() == 0 {
			q.views = append(q.views, buffer.NewView(pendingChunk))
			last++
		}
		n := min(len(p), q.views[last].AvailableSize())
		_, _ = q.views[last].Write(p[:n]) // it does not fail
		p = p[n:]
	}
}

// writeTo writes everything to w and releases the memory. After an error it only releases.
func (q *pending) writeTo(w io.Writer) (err error) {
	for _, v := range q.views {
		if err == nil {
			_, err = w.Write(v.AsSlice())
		}
		v.Release()
	}
	*q = pending{}
	return err
}

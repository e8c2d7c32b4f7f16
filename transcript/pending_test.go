package transcript

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is added comes out in order, whatever the sizes, and an error ends it.
func TestPendingKeepsTheOrder(t *testing.T) {
	var q pending
	var want, got bytes.Buffer
	for i, n := range []int{1, 0, pendingChunk - 1, 1, pendingChunk, 3*pendingChunk + 5, 7} {
		p := bytes.Repeat([]byte{byte(i + 1)}, n)
		q.add(p)
		want.Write(p)
		p = append(p, 0)[:n]
		clear(p) // it was copied
	}
	assert.Equal(t, want.Len(), q.size)
	require.NoError(t, q.writeTo(&got))
	assert.True(t, bytes.Equal(want.Bytes(), got.Bytes()))
	assert.Zero(t, q)

	q.add([]byte{1})
	r, w := io.Pipe()
	require.NoError(t, r.Close())
	assert.ErrorIs(t, q.writeTo(w), io.ErrClosedPipe)
	assert.Zero(t, q)
}

// A burst of entries that a slow writer has taken at last leaves no memory behind.
func TestBurstLeavesNoMemoryBehind(t *testing.T) {
	inUse := func() int64 {
		for range 3 { // a pool keeps memory for two cycles
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	disk := blocked{make(chan struct{})}
	l, err := newLog(disk, Header{}, DefaultBuffer)
	require.NoError(t, err)
	before := inUse()
	noise, source := make([]byte, maxText), rand.NewChaCha8([32]byte{})
	for l.size() < DefaultBuffer/2 {
		_, _ = source.Read(noise) // it does not compress to less than what blocks
		l.add(&Note{string(noise)})
	}
	assert.Greater(t, inUse()-before, int64(DefaultBuffer/4))
	close(disk.until)
	for l.size() != 0 {
		runtime.Gosched()
	}
	require.NoError(t, l.end())
	assert.Less(t, inUse()-before, int64(1<<20))
}

func (l *log) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.size
}

// BenchmarkPending compares pooled pieces of memory with one slice that grows, for 1 MiB of entries
// that wait for a writer.
func BenchmarkPending(b *testing.B) {
	const burst = 1 << 20
	for _, size := range []int{16, 4096} {
		entry := make([]byte, size)
		b.Run(fmt.Sprintf("%d/pooled", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var q pending
				for q.size < burst {
					q.add(entry)
				}
				_ = q.writeTo(io.Discard)
			}
		})
		b.Run(fmt.Sprintf("%d/slice", size), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				var q []byte
				for len(q) < burst {
					q = append(q, entry...)
				}
				_, _ = io.Discard.Write(q)
			}
		})
	}
}

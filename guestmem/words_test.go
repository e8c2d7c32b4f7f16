package guestmem

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
)

// Memory promises these pieces.
func TestPiecesAreNaturallyAlignedAndAsWideAsFits(t *testing.T) {
	for _, c := range []struct {
		addr uintptr
		n    int
		want []int
	}{
		{0, 8, []int{8}},
		{0, 64, []int{8, 8, 8, 8, 8, 8, 8, 8}},
		{8, 16, []int{8, 8}},
		{4, 4, []int{4}},
		{4, 12, []int{4, 8}},
		{0, 12, []int{8, 4}},
		{2, 2, []int{2}},
		{6, 2, []int{2}},
		{1, 1, []int{1}},
		{1, 8, []int{1, 2, 4, 1}},
		{0, 7, []int{4, 2, 1}},
		{3, 15, []int{1, 4, 8, 2}},
	} {
		t.Run(fmt.Sprintf("%d at %d", c.n, c.addr), func(t *testing.T) {
			var got []int
			for addr, n := c.addr, c.n; n > 0; {
				k := piece(addr, n)
				got = append(got, k)
				addr, n = addr+uintptr(k), n-k
			}
			assert.Equal(t, c.want, got)
		})
	}
}

// Lengths are around the bound between pieces and a plain copy.
func TestLoadAndStoreMoveTheBytesAndNoOthers(t *testing.T) {
	const size = 96
	for off := range 9 {
		for n := range size - 2*off {
			mem := make([]byte, size)
			p := make([]byte, n)
			for i := range p {
				p[i] = byte(i + 1)
			}
			Store(mem[off:], p)
			for i, b := range mem {
				want := byte(0)
				if i >= off && i < off+n {
					want = byte(i - off + 1)
				}
				if b != want {
					t.Fatalf("store of %d at %d: byte %d is %d, want %d", n, off, i, b, want)
				}
			}
			back := make([]byte, n)
			Load(back, mem[off:])
			assert.Equal(t, p, back, "load of %d at %d", n, off)
		}
	}
}

// An atomic store of 2 bytes replaces a 4-byte word. The guest may write the other 2 bytes at the
// same time.
func TestStoreOf2BytesKeepsItsNeighbours(t *testing.T) {
	mem := make([]byte, 4)
	var ready, done sync.WaitGroup
	ready.Add(2)
	for i := range 2 {
		done.Go(func() {
			at := mem[2*i:]
			ready.Done()
			ready.Wait()
			for n := range 10 * math.MaxUint16 {
				v := uint16(n)
				var p [2]byte
				binary.NativeEndian.PutUint16(p[:], v)
				Store(at, p[:])
				Load(p[:], at)
				if got := binary.NativeEndian.Uint16(p[:]); got != v {
					t.Errorf("word %d is %d, want %d", i, got, v)
					return
				}
			}
		})
	}
	done.Wait()
}

// Bytes are atomic under the race detector.
func TestStoreOf1ByteKeepsItsNeighbours(t *testing.T) {
	mem := make([]byte, 8)
	var done sync.WaitGroup
	for i := range mem {
		done.Go(func() {
			for n := range 1000 {
				p := []byte{byte(n)}
				Store(mem[i:], p)
				Load(p, mem[i:])
				if p[0] != byte(n) {
					t.Errorf("byte %d is %d, want %d", i, p[0], byte(n))
					return
				}
				Load(make([]byte, 8), mem) // as a migration does
			}
		})
	}
	done.Wait()
}

// A word of each size is read and written where it is, in little-endian order.
func TestWordsOfSlices(t *testing.T) {
	for _, size := range []int{2, 4, 8} {
		for at := 0; at < 16; at += size {
			mem := make([]byte, 16)
			for i := range mem {
				mem[i] = byte(0xa0 + i)
			}
			want := append([]byte(nil), mem...)
			var p [8]byte
			copy(p[:], mem[at:at+size])
			assert.Equal(t, binary.LittleEndian.Uint64(p[:]), LoadWord(mem[at:], size), "%d at %d", size, at)
			binary.LittleEndian.PutUint64(p[:], 0x8070_6050_4030_2010)
			copy(want[at:at+size], p[:])
			StoreWord(mem[at:], size, 0x8070_6050_4030_2010)
			assert.Equal(t, want, mem, "%d at %d", size, at)
		}
		assert.Panics(t, func() { LoadWord(make([]byte, 8)[:size-1], size) })
		assert.Panics(t, func() { StoreWord(make([]byte, 8)[:size-1], size, 0) })
	}
}

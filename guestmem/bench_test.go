package guestmem

import (
	"fmt"
	"testing"
)

func benchSlots(b *testing.B) Memory {
	return newSlots(b,
		Slot{GPA: 0x0800_0000, Mem: make([]byte, 64<<10)},
		Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)},
		Slot{GPA: 0x4010_0000, Mem: make([]byte, 1<<20)},
	)
}

func BenchmarkReadAt(b *testing.B) {
	for _, n := range []int{8, 64, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m, p := benchSlots(b), make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				_ = m.ReadAt(p, 0x4000_1000)
			}
		})
	}
}

func BenchmarkWriteAt(b *testing.B) {
	for _, n := range []int{4, 32, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m, p := benchSlots(b), make([]byte, n)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				_ = m.WriteAt(p, 0x4000_1000)
			}
		})
	}
}

// BenchmarkReadAtParallel shows that accesses on several cores do not slow each other down.
func BenchmarkReadAtParallel(b *testing.B) {
	m := benchSlots(b)
	b.RunParallel(func(pb *testing.PB) {
		p := make([]byte, 8)
		for pb.Next() {
			_ = m.ReadAt(p, 0x4000_1000)
		}
	})
}

// BenchmarkCopies copies guest memory to an array that the device keeps, as it reads commands and STEs.
func BenchmarkCopies(b *testing.B) {
	for _, n := range []int{16, 64, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			words, own := NewWordMemory(benchSlots(b)), make([]uint64, n/8)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				_ = words.Read(own, 0x4000_1000)
			}
		})
	}
}

// BenchmarkTracked compares writes through a Tracked with those to its Slots.
func BenchmarkTracked(b *testing.B) {
	slots := newSlots(b, Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)})
	for _, n := range []int{8, 4096} {
		for _, c := range []struct {
			name string
			mem  func(b *testing.B) Memory
		}{
			{"slots", func(*testing.B) Memory { return slots }},
			{"without an account", func(b *testing.B) Memory { return benchTracked(b, slots) }},
			{"with an account", func(b *testing.B) Memory { m := benchTracked(b, slots); m.NewAccount(); return m }},
		} {
			b.Run(fmt.Sprintf("%d/%s", n, c.name), func(b *testing.B) {
				m, p := c.mem(b), make([]byte, n)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					_ = m.WriteAt(p, 0x4000_1000)
				}
			})
		}
	}
}

func benchTracked(b *testing.B, m Mapper) *Tracked {
	t, err := NewTracked(m)
	if err != nil {
		b.Fatal(err)
	}
	return t
}

// BenchmarkNewAccount is a round that finds 1 GiB of dirty memory.
func BenchmarkNewAccount(b *testing.B) {
	m := benchTracked(b, newSlots(b, Slot{GPA: 0x4000_0000, Mem: make([]byte, 8)}))
	m.NewAccount()
	for b.Loop() {
		m.account.Load().mark(0x4000_0000, 1<<30)
		if m.NewAccount().Pages() != 1<<18 {
			b.Fatal("wrong number of pages")
		}
	}
}

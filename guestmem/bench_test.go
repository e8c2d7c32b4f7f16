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

// Accesses on several cores must not slow each other down.
func BenchmarkReadAtParallel(b *testing.B) {
	m := benchSlots(b)
	b.RunParallel(func(pb *testing.PB) {
		p := make([]byte, 8)
		for pb.Next() {
			_ = m.ReadAt(p, 0x4000_1000)
		}
	})
}

func BenchmarkSnapshot(b *testing.B) {
	for _, n := range []int{64, 4096} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := benchSlots(b)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				v, err := Snapshot(m, 0x4010_0000-32, n) // across slots
				if err != nil {
					b.Fatal(err)
				}
				v.Release()
			}
		})
	}
}

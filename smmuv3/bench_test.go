package smmuv3

import "testing"

func BenchmarkSTEIllegal(b *testing.B) {
	r := s1IDs()
	s := STE{0x8000_0008_1234_502b, 0xf6}
	b.ReportAllocs()
	for b.Loop() {
		if s.Illegal(&r) != nil {
			b.Fatal("illegal")
		}
	}
}

func BenchmarkCommandIllegal(b *testing.B) {
	r := s1IDs()
	for _, c := range []Command{{0x1234_0000_00a0_1012, 0x0000_ffff_8000_0701}, {0x0fc0_1046, 0x4000_0000}} {
		b.Run(c.Opcode().String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if c.Illegal(&r) != nil {
					b.Fatal("illegal")
				}
			}
		})
	}
}

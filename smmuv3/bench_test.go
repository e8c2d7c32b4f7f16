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

// Judging a structure allocates nothing, whether it is legal or not.
func TestIllegalDoesNotAllocate(t *testing.T) {
	all, none := AllFeatures(), IDRegs{}
	stage1 := STE{0x8000_0008_1234_502b, 0xf6}
	nested := STE{0x8000_0008_1234_502f, 0xf6, 0x0408_0000_0000_0007 | 25<<32, 0x1234_5670}
	cd, bad := CD{0x0001_6205_8090_0010, 0x10000, 0x20000}, CD{0x0001_6205_8090_000f, 0x10000, 0x20000}
	for name, f := range map[string]func(){
		"STE of stage 1":      func() { _ = stage1.Illegal(&all) },
		"nested STE":          func() { _ = nested.Illegal(&all) },
		"CD":                  func() { _ = cd.Illegal(&all, false) },
		"illegal CD":          func() { _ = bad.Illegal(&all, true) },
		"command":             func() { _ = Command{0x0001_1012}.Illegal(&all) },
		"Secure command":      func() { _ = Command{0x50}.Illegal(&none) },
		"command without Hyp": func() { _ = Command{0x20}.Illegal(&none) },
		"ID registers":        func() { _ = all.Illegal() },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

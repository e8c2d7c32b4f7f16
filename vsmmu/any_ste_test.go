package vsmmu

import (
	"pgregory.net/rapid"
)

// anyFeatures is an SMMU with stage 1, stage 2 or both. There is no ATS, nor PRI, with a stage 2.
var anyFeatures = rapid.SampledFrom([]features{
	{}, {stalls: true}, {pri: true}, {pri: true, pps: true, stalls: true}, {pri: true, stalls: true},
	{s2: true}, {s2: true, vmid16: true, stalls: true},
	{s2: true, noS1: true}, {s2: true, noS1: true, vmid16: true}, {s2: true, noS1: true, stalls: true},
	{unmapped: true}, {pri: true, stalls: true, unmapped: true}, {s2: true, vmid16: true, unmapped: true},
})

var anyVMID = rapid.SampledFrom([]uint16{0, 3, 3, 3, 0xff, 0x100, 0xffff})

// anySTE draws the first four words of an STE. Most are legal or nearly legal.
var anySTE = rapid.Custom(func(t *rapid.T) [4]uint64 {
	w := [4]uint64{
		rapid.SampledFrom([]uint64{
			0, 1, 9, 0xb | cdAt, 0xb | cdAt | 5<<59 | 1<<4, 0xb | cdAt | 11<<59, 0xb | 1<<45, // Config 000, 100, 101
			0xd, 0xd, 0xd | cdAt | 11<<59, // 110, S1 fields
			0xf | cdAt, 0xf | cdAt, 0xf | cdAt | 5<<59 | 2<<4, 0xf | 1<<45, // 111
		}).Draw(t, "dw0"),
		rapid.SampledFrom([]uint64{0, 0, 0, 0, 0xfd, 1 << 25, 1 << 27, 2, 3, 1 << 28, 1<<28 | 1<<18, 2 << 28, 3 << 28}).Draw(t, "dw1"),
		anyS2DW2.Draw(t, "dw2") | uint64(anyVMID.Draw(t, "S2VMID")),
		// Within S2PS, beyond 32 and 44 bits, above the field in SMMUv3.0; S2SL0_2, S2DS.
		rapid.SampledFrom([]uint64{0x70_0000, 0x70_0000, 0x70_0000, 0x70_0000, 1 << 32, 1 << 44, 1<<48 | 0x70_0010, 0x70_000c}).Draw(t, "dw3"),
	}
	if rapid.IntRange(0, 9).Draw(t, "noise") == 0 {
		w[rapid.IntRange(0, 3).Draw(t, "word")] ^= 1 << rapid.IntRange(0, 63).Draw(t, "bit")
	}
	return w
})

// anyS2DW2 draws a third word without its S2VMID. Half of them walk 39 bits of 4 KiB from level 1,
// as most guests do. The others are near to legal walks.
var anyS2DW2 = rapid.Custom(func(t *rapid.T) uint64 {
	const plain = 25<<32 | 1<<38 | 5<<48 | 1<<51 | 1<<58 // S2T0SZ, S2SL0, S2PS, S2AA64, S2R
	if rapid.Bool().Draw(t, "plain") {
		return plain | rapid.SampledFrom([]uint64{0, 0, 0x35 << 40, 1 << 52, 1 << 53, 1 << 54, 1 << 55, 1 << 56, 1 << 57, 1 << 59}).Draw(t, "flags")
	}
	field := func(name string, lo, most int) uint64 { return uint64(rapid.IntRange(0, most).Draw(t, name)) << lo }
	return 1<<51 + 15<<32 + field("S2T0SZ", 32, 26) | field("S2SL0", 38, 3) | field("S2TG", 46, 3) | field("S2PS", 48, 7)
})

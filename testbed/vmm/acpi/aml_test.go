package acpi

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func bytesOf(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	assert.NoError(t, err)
	return b
}

func TestTermsAreEncodedAsChapter20Says(t *testing.T) {
	for _, tt := range []struct {
		name string
		term Term
		want string
	}{
		{"ZeroOp", Int(0), "00"},
		{"OneOp", Int(1), "01"},
		{"ByteConst", Int(2), "0a 02"},
		{"last ByteConst", Int(0xff), "0a ff"},
		{"WordConst", Int(0x100), "0b 00 01"},
		{"last WordConst", Int(0xffff), "0b ff ff"},
		{"DWordConst", Int(0x1_0000), "0c 00 00 01 00"},
		{"last DWordConst", Int(0xffff_ffff), "0c ff ff ff ff"},
		{"QWordConst", Int(1 << 32), "0e 00 00 00 00 01 00 00 00"},
		{"string", String("AB"), "0d 41 42 00"},
		{"compressed EISA ID", EISAID("PNP0A08"), "0c 41 d0 0a 08"},
		{"name", Name("_UID", Int(1)), "08 5f 55 49 44 01"},
		{"package", Package(Int(0), Int(0x1234)), "12 06 02 00 0b 34 12"},
		{"buffer", Buffer([]byte{7, 8}), "11 05 0a 02 07 08"},
		{"empty buffer", Buffer(nil), "11 02 00"},
		{"scope", Scope("_SB_", Int(0)), "10 07 5c 5f 53 42 5f 00"},
		{"device", Device("PCI0", Name("_ADR", Int(0))), "5b 82 0b 50 43 49 30 08 5f 41 44 52 00"},
		{"method", Method("_OSC", 4, Return(Arg3)), "14 08 5f 4f 53 43 04 a4 6b"},
		{"condition", IfEqual(Arg2, Int(5), Return(Int(0))), "a0 07 93 6a 0a 05 a4 00"},
	} {
		assert.Equal(t, bytesOf(t, tt.want), []byte(tt.term), tt.name)
	}
}

// A PkgLength counts its own bytes (§20.2.4).
func TestPackageLength(t *testing.T) {
	for _, tt := range []struct {
		body int
		want string
	}{
		{0, "01"},
		{0x3e, "3f"},
		{0x3f, "41 04"},
		{0xffd, "4f ff"},
		{0xffe, "81 00 01"},
		{0xf_fffc, "8f ff ff"},
		{0xf_fffd, "c1 00 00 01"},
	} {
		assert.Equal(t, bytesOf(t, tt.want), packageLength(tt.body), "%#x", tt.body)
	}
}

func TestNamesHaveFourCharacters(t *testing.T) {
	for _, bad := range []string{"", "PCI", "PCI00", "0PCI", "pci0", "A.BC"} {
		assert.Panics(t, func() { Device(bad) }, bad)
	}
	assert.NotPanics(t, func() { Device("_A0Z") })
}

func TestResourceDescriptorsAreEncodedAsSection6_4Says(t *testing.T) {
	for _, tt := range []struct {
		name string
		got  []byte
		want string
	}{
		{"fixed memory", Memory32(0x0a00_0200, 0x200), "86 0900 01 0002000a 00020000"},
		{"interrupt", Interrupt(48), "89 0600 01 01 30000000"},
		{"window", Window(0x1000_0000, 0x2f00_0000, false), `8a 2b00 00 0c 01
			0000000000000000 0000001000000000 ffffff3e00000000 0000000000000000 0000002f00000000`},
		{"prefetchable window", Window(0x20_0000_0000, 0x10_0000_0000, true), `8a 2b00 00 0c 07
			0000000000000000 0000000020000000 ffffffff2f000000 0000000000000000 0000000010000000`},
		{"bus numbers", Buses(16), "88 0d00 02 0c 00 0000 0000 0f00 0000 1000"},
		{"end tag", Resources(Interrupt(48)), "11 0e 0a 0b 89 0600 01 01 30000000 79 00"},
	} {
		assert.Equal(t, bytesOf(t, tt.want), tt.got, tt.name)
	}
}

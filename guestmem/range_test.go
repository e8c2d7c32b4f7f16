package guestmem

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/assert"
)

const top = ^GPA(0) // the last address

func TestRangeContainsFirstToLast(t *testing.T) {
	for _, c := range []struct {
		name string
		r    Range
		gpa  GPA
		want bool
	}{
		{"first", Range{0x1000, 0x10}, 0x1000, true},
		{"last", Range{0x1000, 0x10}, 0x100f, true},
		{"before", Range{0x1000, 0x10}, 0xfff, false},
		{"after", Range{0x1000, 0x10}, 0x1010, false},
		{"empty", Range{0x1000, 0}, 0x1000, false},
		{"last address of the address space", Range{top - 0xf, 0x10}, top, true},
		{"does not wrap", Range{top - 0xf, 0x20}, 0, false},
		{"the greatest length", Range{0, ^uint64(0)}, top - 1, true},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, c.r.Contains(c.gpa)) })
	}
}

func TestRangesOverlapIfTheyShareAnAddress(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b Range
		want bool
	}{
		{"equal", Range{0x1000, 0x10}, Range{0x1000, 0x10}, true},
		{"inside", Range{0x1000, 0x10}, Range{0x1004, 1}, true},
		{"one byte in common", Range{0x1000, 0x10}, Range{0x100f, 0x10}, true},
		{"adjoining", Range{0x1000, 0x10}, Range{0x1010, 0x10}, false},
		{"apart", Range{0x1000, 0x10}, Range{0x2000, 0x10}, false},
		{"empty inside", Range{0x1000, 0x10}, Range{0x1004, 0}, false},
		{"both empty", Range{0x1000, 0}, Range{0x1000, 0}, false},
		{"at the end", Range{top, 1}, Range{top - 1, 2}, true},
		{"does not wrap", Range{top, 0x10}, Range{0, 0x10}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, c.a.Overlaps(c.b))
			assert.Equal(t, c.want, c.b.Overlaps(c.a), "symmetric")
		})
	}
}

func TestRangeStringIsFirstToLast(t *testing.T) {
	assert.Equal(t, "0x1000 to 0x1fff", Range{0x1000, 0x1000}.String())
	assert.Equal(t, "0x1000, empty", Range{0x1000, 0}.String())
	assert.Equal(t, "0xffffffffffffff00 to 0xffffffffffffffff", Range{top - 0xff, 0x1000}.String())
}

// A GPA is text for %v and %s, and a number for the verbs of numbers.
func TestGPAFormats(t *testing.T) {
	for format, want := range map[string]string{
		"%v": "0x4000beef", "%s": "0x4000beef", "%+v": "0x4000beef", "%#v": "0x4000beef",
		"%x": "4000beef", "%#x": "0x4000beef", "%X": "4000BEEF", "%#016x": "0x000000004000beef",
		"%d": "1073790703", "%12v|": "  0x4000beef|", "%-12s|": "0x4000beef  |", "%o": "10000137357",
	} {
		assert.Equal(t, want, fmt.Sprintf(format, GPA(0x4000_beef)), format)
	}
	assert.Equal(t, "0x4000beef", GPA(0x4000_beef).String())
	assert.Equal(t, "[0x1000 0x0]", fmt.Sprint([]GPA{0x1000, 0}))
	assert.Equal(t, "{0x1000 16}", fmt.Sprintf("%v", struct {
		GPA GPA
		Len uint64
	}{0x1000, 16}))
}

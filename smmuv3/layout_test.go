package smmuv3

import (
	mathbits "math/bits"
	"testing"

	"github.com/stretchr/testify/assert"
)

// field is a field of a structure. mask has its bits in double-word dw, as the specification
// defines them.
type field[S any] struct {
	name    string
	dw      int
	mask    uint64
	inPlace bool // an address: get returns the bits in their place
	get     func(*S) uint64
	set     func(*S, uint64) // nil if there is no setter
}

// testLayout checks that a getter reads its field and no other bit, and that a setter changes its
// field and no other bit.
func testLayout[S interface {
	[2]uint64 | [4]uint64 | [8]uint64 | Command | Event | STE
}](t *testing.T, fields []field[S]) {
	t.Helper()
	var ones S
	for i := range len(ones) {
		ones[i] = ^uint64(0)
	}
	for _, f := range fields {
		t.Run(f.name, func(t *testing.T) {
			most := f.mask >> mathbits.TrailingZeros64(f.mask)
			if f.inPlace {
				most = f.mask
			}
			var only S
			only[f.dw] = f.mask
			others := ones
			others[f.dw] = ^f.mask
			assert.Equal(t, most, f.get(&only), "all bits of the field")
			assert.Zero(t, f.get(&others), "all bits but the field's")
			if f.set == nil {
				return
			}
			var s S
			f.set(&s, ^uint64(0))
			assert.Equal(t, only, s, "set in zeros")
			s = ones
			f.set(&s, 0)
			assert.Equal(t, others, s, "cleared in ones")
		})
	}
}

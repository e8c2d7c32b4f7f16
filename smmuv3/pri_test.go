package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The bits of Chapter 8.
func TestPageRequestLayout(t *testing.T) {
	// StreamID 0x1234_5678, SubstreamID 0x9abcd, Priv, R, Last, SSV; group 0x1ff at 0xffff_f000.
	r := PageRequest{0xd409_abcd_1234_5678, 0xffff_f1ff}
	assert.Equal(t, StreamID(0x1234_5678), r.StreamID())
	assert.Equal(t, SubstreamID(0x9abcd), r.SubstreamID())
	assert.EqualValues(t, 0x1ff, r.PRGIndex())
	assert.EqualValues(t, 0xffff_f000, r.Addr())
	assert.Equal(t, "page request stream 0x12345678 substream 0x9abcd group 511 at 0xfffff000 R Priv Last", r.String())

	beside := PageRequest{^uint64(0xfffff << 32), ^uint64(0x1ff)}
	assert.Zero(t, beside.SubstreamID())
	assert.Zero(t, beside.PRGIndex())

	for bit, get := range map[uint]func(PageRequest) bool{
		58: PageRequest.Priv, 59: PageRequest.X, 60: PageRequest.R, 61: PageRequest.W, 62: PageRequest.Last, 63: PageRequest.SSV,
	} {
		assert.True(t, get(PageRequest{1 << bit}), "bit %d", bit)
		assert.False(t, get(PageRequest{^uint64(1 << bit), ^uint64(0)}), "bit %d", bit)
	}
	for bit, set := range map[uint]func(*PageRequest, bool){
		58: (*PageRequest).SetPriv, 59: (*PageRequest).SetX, 60: (*PageRequest).SetR, 61: (*PageRequest).SetW, 62: (*PageRequest).SetLast,
	} {
		r := PageRequest{0, ^uint64(0)}
		set(&r, true)
		assert.Equal(t, PageRequest{1 << bit, ^uint64(0)}, r)
		r = PageRequest{^uint64(0), ^uint64(0)}
		set(&r, false)
		assert.Equal(t, PageRequest{^uint64(1 << bit), ^uint64(0)}, r)
	}
	var made PageRequest
	made.SetStreamID(0x1234_5678)
	made.SetSubstream(0x9abcd)
	made.SetPRGIndex(0x1ff)
	made.SetAddr(0xffff_ffff)
	assert.Equal(t, PageRequest{0x8009_abcd_1234_5678, 0xffff_f1ff}, made)
	var p [PageReqSize]byte
	PageRequest{0x0102030405060708, 0x11}.Put(&p)
	assert.Equal(t, [PageReqSize]byte{8, 7, 6, 5, 4, 3, 2, 1, 0x11}, p)
}

// A Stop PASID marker has a SubstreamID and LWR = 100 (Chapter 8).
func TestStopMarker(t *testing.T) {
	const lastSSV, w, r = 1<<62 | 1<<63, 1 << 61, 1 << 60
	assert.True(t, PageRequest{lastSSV}.StopMarker())
	assert.False(t, PageRequest{lastSSV | w}.StopMarker(), "asks for a page to write")
	assert.False(t, PageRequest{lastSSV | r}.StopMarker(), "asks for a page to read")
	assert.False(t, PageRequest{1 << 62}.StopMarker(), "without a SubstreamID it is a page request")
	assert.False(t, PageRequest{1 << 63}.StopMarker())
}

// Defined clears reserved bits and, with SSV = 0, SubstreamID, X and Priv (Chapter 8).
func TestPageRequestDefined(t *testing.T) {
	all := PageRequest{^uint64(0), ^uint64(0)}
	assert.Equal(t, PageRequest{0xfc0f_ffff_ffff_ffff, 0xffff_ffff_ffff_f1ff}, all.Defined())
	assert.Equal(t, PageRequest{0x7000_0000_ffff_ffff, 0}, PageRequest{0x7c0f_ffff_ffff_ffff, 0}.Defined(), "SSV = 0")
	assert.Equal(t, PageRequest{0x73f0_0000_ffff_ffff, 1}, PageRequest{^uint64(0), 1}.WithoutSubstream())
}

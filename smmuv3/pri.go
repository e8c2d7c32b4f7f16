package smmuv3

import "fmt"

// PageRequest is a record of the PRI queue (Chapter 8), in the form in which an
// endpoint's PCIe message arrives there.
//
//	dw0  StreamID [31:0]  SubstreamID [51:32]  Priv [58]  X [59]  R [60]  W [61]  Last [62]  SSV [63]
//	dw1  PRGIndex [8:0]  page address [63:12]
type PageRequest [2]uint64

// Put writes the record as it lies in memory.
func (r PageRequest) Put(p *[PageReqSize]byte) { putWords(p[:], r[:]) }

func (r PageRequest) StreamID() StreamID       { return StreamID(r[0]) }
func (r PageRequest) SubstreamID() SubstreamID { return SubstreamID(bits(r[0], 32, 20)) }
func (r PageRequest) Priv() bool               { return bit(r[0], 58) }
func (r PageRequest) X() bool                  { return bit(r[0], 59) }
func (r PageRequest) R() bool                  { return bit(r[0], 60) }
func (r PageRequest) W() bool                  { return bit(r[0], 61) }
func (r PageRequest) Last() bool               { return bit(r[0], 62) }
func (r PageRequest) SSV() bool                { return bit(r[0], 63) }
func (r PageRequest) PRGIndex() uint16         { return uint16(bits(r[1], 0, 9)) }
func (r PageRequest) Addr() uint64             { return r[1] &^ 0xfff }

func (r *PageRequest) SetStreamID(s StreamID)   { r[0] = setBits(r[0], 0, 32, uint64(s)) }
func (r *PageRequest) SetPriv(v bool)           { r[0] = setBit(r[0], 58, v) }
func (r *PageRequest) SetX(v bool)              { r[0] = setBit(r[0], 59, v) }
func (r *PageRequest) SetR(v bool)              { r[0] = setBit(r[0], 60, v) }
func (r *PageRequest) SetW(v bool)              { r[0] = setBit(r[0], 61, v) }
func (r *PageRequest) SetLast(v bool)           { r[0] = setBit(r[0], 62, v) }
func (r *PageRequest) SetPRGIndex(group uint16) { r[1] = setBits(r[1], 0, 9, uint64(group)) }
func (r *PageRequest) SetAddr(a uint64)         { r[1] = r[1]&0xfff | a&^0xfff }

// SetSubstream gives the request a SubstreamID: SSV is set.
func (r *PageRequest) SetSubstream(s SubstreamID) {
	r[0] = setBits(r[0], 32, 20, uint64(s)) | 1<<63
}

// StopMarker reports whether the message is a Stop PASID marker, which delimits
// groups and is never answered (Chapter 8): it has a SubstreamID and LWR = 100.
func (r PageRequest) StopMarker() bool { return r.SSV() && r.Last() && !r.W() && !r.R() }

// Defined is the record less its reserved bits, and less the SubstreamID, X and
// Priv where SSV says that there are none.
func (r PageRequest) Defined() PageRequest {
	r[0] &^= 0x3f << 52
	r[1] &^= 7 << 9
	if !r.SSV() {
		return r.WithoutSubstream()
	}
	return r
}

// WithoutSubstream is the record as an SMMU without substreams has it.
func (r PageRequest) WithoutSubstream() PageRequest {
	r[0] &^= 1<<63 | 1<<59 | 1<<58 | 0xfffff<<32 // SSV, X, Priv, SubstreamID
	return r
}

// String names who asks for which page, and how.
func (r PageRequest) String() string {
	s := fmt.Sprintf("page request stream %v", r.StreamID())
	if r.SSV() {
		s += fmt.Sprintf(" substream %#x", uint32(r.SubstreamID()))
	}
	if r.StopMarker() {
		return s + " stop marker"
	}
	access := ""
	for _, a := range []struct {
		on   bool
		name string
	}{{r.R(), "R"}, {r.W(), "W"}, {r.X(), "X"}, {r.Priv(), "Priv"}, {r.Last(), "Last"}} {
		if a.on {
			access += " " + a.name
		}
	}
	return fmt.Sprintf("%s group %d at %#x%s", s, r.PRGIndex(), r.Addr(), access)
}

// PRGResponse is the answer to a group of page requests, as CMD_PRI_RESP.Resp
// has it (§4.5.2, §8.3).
type PRGResponse uint8

const (
	PRGFailure PRGResponse = 0b00 // a permanent error, such as ATS being disabled
	PRGInvalid PRGResponse = 0b01 // a page could not be brought in
	PRGSuccess PRGResponse = 0b10
)

func (r PRGResponse) String() string {
	return [4]string{"failure", "invalid request", "success", "reserved"}[r&3]
}

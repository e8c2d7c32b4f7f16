package smmuv3

import "fmt"

// PageRequest is a record of the PRI queue (Chapter 8). It also represents a PCIe Page Request
// message of an endpoint.
//
//	 63  62   61 60 59  58   57   52 51         32 31          0
//	+---+----+--+--+--+----+--------+-------------+-------------+
//	|SSV|Last| W| R| X|Priv|  RES0  | SubstreamID |  StreamID   |  dw0
//	+---+----+--+--+--+----+--------+-------------+-------------+
//	 63                                 12 11   9 8             0
//	+-------------------------------------+------+--------------+
//	|           page address[63:12]       | RES0 |   PRGIndex   |  dw1
//	+-------------------------------------+------+--------------+
type PageRequest [2]uint64

// PageReqSize is the size of a PRI queue record in bytes.
const PageReqSize = 16

// The places of the fields.
const (
	priStreamID    = 0 + 32*wide
	priSubstreamID = 32 + 20*wide
	priPriv        = 58 + wide
	priX           = 59 + wide
	priR           = 60 + wide
	priW           = 61 + wide
	priLast        = 62 + wide
	priSSV         = 63 + wide
	priPRGIndex    = dw1 + 0 + 9*wide
	priAddr        = dw1 + 12 + 52*wide + address
)

// priRows are the fields of Chapter 8.
var priRows = []row{
	{name: "StreamID", place: priStreamID},
	{name: "SSV", place: priSSV, mean: oneOf("without a SubstreamID", "with a SubstreamID")},
	{name: "SubstreamID", place: priSubstreamID},
	{name: "Last", place: priLast, mean: oneOf("", "the last request of its group")},
	{name: "R", place: priR, mean: oneOf("", "read access")},
	{name: "W", place: priW, mean: oneOf("", "write access")},
	{name: "X", place: priX, mean: oneOf("", "execute access")},
	{name: "Priv", place: priPriv, mean: oneOf("unprivileged", "privileged")},
	{name: "PRGIndex", place: priPRGIndex},
	{name: "Address", place: priAddr},
}

// Fields explains the record field by field.
func (r PageRequest) Fields() []Field { return explain(r[:], priRows) }

// PageAccess is the access that a page request requires.
type PageAccess struct {
	Read, Write, Exec, Privileged bool
}

// NewPageRequest returns a request of a group for access to the page at addr. Execute and
// privileged access need a SubstreamID: see WithSubstream. The last request of a group sets Last.
func NewPageRequest(s StreamID, group uint16, addr uint64, a PageAccess, last bool) PageRequest {
	var r PageRequest
	r.SetStreamID(s)
	r.SetPRGIndex(group)
	r.SetAddr(addr)
	r.SetR(a.Read)
	r.SetW(a.Write)
	r.SetX(a.Exec)
	r.SetPriv(a.Privileged)
	r.SetLast(last)
	return r
}

// NewStopMarker returns a Stop PASID marker. The endpoint sends no more requests of earlier groups
// with the SubstreamID (Chapter 8).
func NewStopMarker(s StreamID, sub SubstreamID) PageRequest {
	return NewPageRequest(s, 0, 0, PageAccess{}, true).WithSubstream(sub)
}

// WithSubstream returns the request with a SubstreamID: it sets SSV.
func (r PageRequest) WithSubstream(s SubstreamID) PageRequest {
	r.SetSubstream(s)
	return r
}

// LoadPageRequest reads a record from its memory format.
func LoadPageRequest(p *[PageReqSize]byte) (r PageRequest) {
	loadWords(r[:], p[:])
	return r
}

// Put writes the record in its memory format.
func (r PageRequest) Put(p *[PageReqSize]byte) { putWords(p[:], r[:]) }

func (r *PageRequest) get(p place) uint64 { return p.of(r[p.dw()&1]) }

func (r *PageRequest) set(p place, v uint64) {
	w := &r[p.dw()&1]
	*w = p.in(*w, v)
}

// StreamID returns the endpoint's StreamID.
func (r PageRequest) StreamID() StreamID { return StreamID(r.get(priStreamID)) }

// SubstreamID returns the request's PASID.
func (r PageRequest) SubstreamID() SubstreamID { return SubstreamID(r.get(priSubstreamID)) }

// Priv reports whether the request is for privileged access.
func (r PageRequest) Priv() bool { return r.get(priPriv) != 0 }

// X reports whether the request is for execute access.
func (r PageRequest) X() bool { return r.get(priX) != 0 }

// R reports whether the request is for read access.
func (r PageRequest) R() bool { return r.get(priR) != 0 }

// W reports whether the request is for write access.
func (r PageRequest) W() bool { return r.get(priW) != 0 }

// Last reports whether the request is the last of its group.
func (r PageRequest) Last() bool { return r.get(priLast) != 0 }

// SSV reports whether SubstreamID is valid.
func (r PageRequest) SSV() bool { return r.get(priSSV) != 0 }

// PRGIndex returns the request's Page Request Group.
func (r PageRequest) PRGIndex() uint16 { return uint16(r.get(priPRGIndex)) }

// Addr returns the address of the page.
func (r PageRequest) Addr() uint64 { return r.get(priAddr) }

// SetStreamID sets the endpoint's StreamID.
func (r *PageRequest) SetStreamID(s StreamID) { r.set(priStreamID, uint64(s)) }

// SetPriv sets whether the request is for privileged access.
func (r *PageRequest) SetPriv(v bool) { r.set(priPriv, b2u(v)) }

// SetX sets whether the request is for execute access.
func (r *PageRequest) SetX(v bool) { r.set(priX, b2u(v)) }

// SetR sets whether the request is for read access.
func (r *PageRequest) SetR(v bool) { r.set(priR, b2u(v)) }

// SetW sets whether the request is for write access.
func (r *PageRequest) SetW(v bool) { r.set(priW, b2u(v)) }

// SetLast sets whether the request is the last of its group.
func (r *PageRequest) SetLast(v bool) { r.set(priLast, b2u(v)) }

// SetPRGIndex sets the request's Page Request Group.
func (r *PageRequest) SetPRGIndex(group uint16) { r.set(priPRGIndex, uint64(group)) }

// SetAddr sets the address of the page.
func (r *PageRequest) SetAddr(a uint64) { r.set(priAddr, a) }

// SetSubstream gives the request a SubstreamID: it sets SSV.
func (r *PageRequest) SetSubstream(s SubstreamID) {
	r.set(priSSV, 1)
	r.set(priSubstreamID, uint64(s))
}

// StopMarker reports whether the record is a Stop PASID marker, which gets no answer. It has a
// SubstreamID, Last = 1, W = 0 and R = 0 (Chapter 8).
func (r PageRequest) StopMarker() bool { return r.SSV() && r.Last() && !r.W() && !r.R() }

// Defined returns the record without its reserved bits and, with SSV = 0, without SubstreamID, X
// and Priv.
func (r PageRequest) Defined() PageRequest {
	for i := range r {
		r[i] &= priDefined[i]
	}
	if !r.SSV() {
		return r.WithoutSubstream()
	}
	return r
}

// priDefined are the bits of fields.
var priDefined = func() (d PageRequest) {
	for i := range priRows {
		d[priRows[i].dw()] |= priRows[i].mask()
	}
	return d
}()

// WithoutSubstream returns the record without SSV and the fields that need it, as an SMMU without
// substreams writes it.
func (r PageRequest) WithoutSubstream() PageRequest {
	for _, p := range []place{priSSV, priX, priPriv, priSubstreamID} {
		r.set(p, 0)
	}
	return r
}

// String returns the stream, the group, the page and the access.
func (r PageRequest) String() string {
	s := fmt.Sprintf("page request stream %v", r.StreamID())
	if r.SSV() {
		s += fmt.Sprintf(" substream %v", r.SubstreamID())
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

// PRGResponse is the answer to a Page Request Group: CMD_PRI_RESP.Resp (§4.5.2, §8.3).
type PRGResponse uint8

// Values of CMD_PRI_RESP.Resp.
const (
	PRGFailure PRGResponse = 0b00 // a permanent error, such as ATS being disabled
	PRGInvalid PRGResponse = 0b01 // a page does not exist or forbids the access
	PRGSuccess PRGResponse = 0b10
)

// String describes the response.
func (r PRGResponse) String() string {
	return [4]string{"failure", "invalid request", "success", "reserved"}[r&3]
}

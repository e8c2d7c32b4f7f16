package transcript

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// magic opens every transcript, and Version follows it: two bytes, the low one
// first. What comes after is a zstd stream of frames, each a length as a varint
// and as many bytes.
const magic = "vsmmu-tr"

// Version of the format. A reader takes its own and those before.
const Version = 2

// maxFrame bounds a frame, in bytes. The largest are a batch of invalidations,
// and headers.
const maxFrame = 64 << 10

// Errors of reading.
var (
	// ErrForeign: it is no transcript.
	ErrForeign = errors.New("not a transcript of a vsmmu device")
	// ErrNewer: a newer version of this module has written it.
	ErrNewer = errors.New("the transcript is of a newer version of the format")
	// ErrCut: the transcript ends before its last entry. What came before is as
	// good as in one that does not.
	ErrCut = errors.New("the transcript is cut off")
	// ErrCorrupt: something in it cannot be.
	ErrCorrupt = errors.New("the transcript is corrupt")
)

// Header is what a transcript says of the device before anything happens.
type Header struct {
	// Title says what was recorded.
	Title string `json:"title,omitempty"`
	// Recorded is when.
	Recorded time.Time `json:"recorded,omitzero"`
	// IDs are the ID registers that the guest reads.
	IDs smmuv3.IDRegs `json:"ids"`
	// AbortAtReset is that of vsmmu.Config.
	AbortAtReset bool `json:"abort_at_reset,omitempty"`
	// Policy and Hosts are what the ID registers were derived from, for those who
	// want to know why; empty if the embedder did not say.
	Policy Policy                `json:"policy,omitempty"`
	Hosts  []bridge.Capabilities `json:"hosts,omitempty"`
	// Streams are names for StreamIDs, for people.
	Streams map[smmuv3.StreamID]string `json:"streams,omitempty"`
}

// Policy is an idr.Policy, which JSON has by the names of the fields.
type Policy idr.Policy

// UnmarshalJSON implements json.Unmarshaler.
func (p *Policy) UnmarshalJSON(b []byte) error {
	var named map[string]uint32
	if err := json.Unmarshal(b, &named); err != nil {
		return err
	}
	*p = Policy{}
	for _, f := range smmuv3.IDFields() {
		if v, ok := named[f.String()]; ok {
			(*p)[f] = v
			delete(named, f.String())
		}
	}
	for name := range named {
		return fmt.Errorf("no field of the ID registers is called %q", name)
	}
	return nil
}

// preamble is what stands before the compressed part.
func preamble() []byte {
	return append([]byte(magic), Version&0xff, Version>>8)
}

// readPreamble finds out whether r has a transcript that this version reads, and of
// which version it is.
func readPreamble(r io.Reader) (version int, err error) {
	p := make([]byte, len(magic)+2)
	n, err := io.ReadFull(r, p)
	m := min(n, len(magic))
	switch {
	case string(p[:m]) != magic[:m] || n == 0:
		return 0, ErrForeign
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, ErrCut
	case err != nil:
		return 0, err
	}
	version = int(p[len(magic)]) | int(p[len(magic)+1])<<8
	if version == 0 {
		return 0, ErrForeign
	} else if version > Version {
		return 0, fmt.Errorf("%w: %d, and this program reads up to %d", ErrNewer, version, Version)
	}
	return version, nil
}

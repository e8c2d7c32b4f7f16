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

// magic starts every transcript. The version follows in two bytes, the low one first; the rest is a
// zstd stream of frames, each a length as a varint and that many bytes.
const magic = "vsmmu-tr"

// Version is the version of the format that a Recorder writes. A Reader reads it and all earlier
// ones.
const Version = 2

// maxFrame bounds a frame, in bytes. The largest frames are headers and batches of invalidations.
const maxFrame = 64 << 10

// Errors of reading and recording.
var (
	// ErrForeign means that the input is not a transcript.
	ErrForeign = errors.New("not a transcript of a vsmmu device")
	// ErrNewer means that a newer version of this module wrote the transcript.
	ErrNewer = errors.New("newer version of the transcript format")
	// ErrCut means that the transcript has no last entry. All entries before the cut are valid.
	ErrCut = errors.New("transcript cut off")
	// ErrCorrupt means that the transcript holds invalid data.
	ErrCorrupt = errors.New("corrupt transcript")
)

// Header describes the device of a transcript. It precedes the first entry.
type Header struct {
	// Title names the recording.
	Title string `json:"title,omitempty"`
	// Recorded is the time of the recording.
	Recorded time.Time `json:"recorded,omitzero"`
	// IDs are the ID registers that the guest reads.
	IDs smmuv3.IDRegs `json:"ids"`
	// AbortAtReset is vsmmu.Config.AbortAtReset.
	AbortAtReset bool `json:"abort_at_reset,omitempty"`
	// Policy and Hosts are the inputs of the derivation of the ID registers. They are empty if the
	// embedder did not set them.
	Policy Policy                `json:"policy,omitempty"`
	Hosts  []bridge.Capabilities `json:"hosts,omitempty"`
	// Streams are names of StreamIDs, for readers of the transcript.
	Streams map[smmuv3.StreamID]string `json:"streams,omitempty"`
}

// Policy is an idr.Policy. Its JSON form has the names of the fields.
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
		return fmt.Errorf("policy: no field %q in the ID registers", name)
	}
	return nil
}

// preamble returns the bytes before the compressed part.
func preamble() []byte {
	return append([]byte(magic), Version&0xff, Version>>8)
}

// IsTranscript reports whether a file that starts with head is a transcript of any version, whole
// or cut off. Eight bytes of head suffice.
func IsTranscript(head []byte) bool {
	n := min(len(head), len(magic))
	return n > 0 && string(head[:n]) == magic[:n]
}

// readPreamble reads the bytes before the compressed part and returns the version.
func readPreamble(r *source) (version int, err error) {
	p := make([]byte, len(magic)+2)
	n, err := io.ReadFull(r, p)
	m := min(n, len(magic))
	switch {
	case r.err != nil:
		return 0, r.err
	case string(p[:m]) != magic[:m] || n == 0:
		return 0, ErrForeign
	case err != nil:
		return 0, ErrCut
	}
	version = int(p[len(magic)]) | int(p[len(magic)+1])<<8
	if version == 0 {
		return 0, ErrForeign
	} else if version > Version {
		return 0, fmt.Errorf("%w: version %d (this program reads up to %d)", ErrNewer, version, Version)
	}
	return version, nil
}

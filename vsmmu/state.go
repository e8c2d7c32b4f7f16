package vsmmu

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The encoding of a device's state: see docs/save-format.md. It is little-endian: a header, the
// device, the stalled transactions, the streams, and a CRC-32 over all of them.
const (
	stateMagic   = "vSMMUv3\n"
	stateVersion = 2
)

type stateHeader struct {
	Magic   [8]byte
	Version uint32
	Length  uint32 // of the whole state, in bytes
}

// savedDevice is the device, without its streams.
type savedDevice struct {
	IDs        smmuv3.IDRegs
	Regs       [wIDRegs]uint32 // 0x00 to 0xfc; registers of page 1 are at the offsets of their aliases
	GBPA       uint32          // in effect
	Flags      uint32
	Last       smmuv3.Event // the last event; equal ones are merged into it
	LastAt     uint32       // its index
	NumStalled uint32
	NumStreams uint32
}

// Flags of savedDevice.
const (
	stateFailed     = 1 << iota // Service Failure Mode
	stateRefetch                // STEs are to be fetched again
	stateATCTimeout             // the next SYNC reports a timeout
	stateMerge                  // Last is valid

	stateFlags = 1<<iota - 1
)

// savedStall is a stalled transaction that was reported to the guest.
type savedStall struct {
	StreamID uint32
	STAG     uint16
}

// savedStream is a stream. A stage that translates is written as its STE.
type savedStream struct {
	StreamID    uint32
	Disposition uint8
	Cause       uint8
	Flags       uint16
	FetchAddr   uint64
	STE         [4]uint64
	Walked      [2]uint64
}

// Flags of savedStream.
const (
	streamDisabled = 1 << iota
	streamUsedATS
	streamOutOfSync // its host was out of sync
	streamL1STD     // Walked[0] is valid
	streamSTE       // Walked[1] is valid

	streamFlags = 1<<iota - 1
)

type state struct {
	savedDevice
	stalled []savedStall
	streams []savedStream
}

var (
	headerSize      = binary.Size(stateHeader{})
	deviceSize      = binary.Size(savedDevice{})
	stallSize       = binary.Size(savedStall{})
	savedStreamSize = binary.Size(savedStream{})
)

func (s *state) encode() []byte {
	s.NumStalled, s.NumStreams = uint32(len(s.stalled)), uint32(len(s.streams))
	h := stateHeader{Magic: [8]byte([]byte(stateMagic)), Version: stateVersion}
	h.Length = uint32(headerSize + deviceSize + stallSize*len(s.stalled) + savedStreamSize*len(s.streams) + crc32.Size)
	p := make([]byte, 0, h.Length)
	for _, part := range []any{h, s.savedDevice, s.stalled, s.streams} {
		p, _ = binary.Append(p, binary.LittleEndian, part) // it fails only for types of variable size
	}
	return binary.LittleEndian.AppendUint32(p, crc32.ChecksumIEEE(p))
}

// decodeState decodes a state that encode returned. It checks the encoding only: Device.check
// checks the values.
func decodeState(p []byte) (*state, error) {
	if len(p) < headerSize+deviceSize+crc32.Size || string(p[:len(stateMagic)]) != stateMagic {
		return nil, stateError("%d bytes without the header of a state", len(p))
	}
	var s state
	var h stateHeader
	next := func(part any) {
		n, _ := binary.Decode(p, binary.LittleEndian, part) // p is long enough
		p = p[n:]
	}
	whole, sum := p, binary.LittleEndian.Uint32(p[len(p)-crc32.Size:])
	next(&h)
	switch {
	case h.Version != stateVersion:
		return nil, stateError("version %d, want %d (restore with the release that saved it)", h.Version, stateVersion)
	case uint64(h.Length) != uint64(len(whole)):
		return nil, stateError("%d bytes (want %d)", len(whole), h.Length)
	case crc32.ChecksumIEEE(whole[:len(whole)-crc32.Size]) != sum:
		return nil, stateError("wrong checksum")
	}
	next(&s.savedDevice)
	stalled, streams := uint64(s.NumStalled), uint64(s.NumStreams)
	if stalled*uint64(stallSize)+streams*uint64(savedStreamSize)+crc32.Size != uint64(len(p)) {
		return nil, stateError("%d stalled transactions and %d streams do not fill %d bytes", stalled, streams, len(p))
	}
	s.stalled, s.streams = make([]savedStall, stalled), make([]savedStream, streams)
	next(s.stalled)
	next(s.streams)
	return &s, nil
}

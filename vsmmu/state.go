package vsmmu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/trap"
)

// The encoding of a device's state, see docs/save-format.md. All is little-endian: a
// header, the device, the stalled transactions, the streams, and a CRC-32 over all
// before it.
const (
	stateMagic   = "vSMMUv3\n"
	stateVersion = 2
)

// ErrState: what was given to Restore is no state, or one that this device cannot
// have been in.
var ErrState = errors.New("vsmmu: not a state of this device")

type stateHeader struct {
	Magic   [8]byte
	Version uint32
	Length  uint32 // of everything, in bytes
}

// savedDevice is the device, without its streams.
type savedDevice struct {
	IDs        smmuv3.IDRegs
	Regs       [wIDRegs]uint32 // the registers from 0x00 to 0xfc, with those of page 1 in the place of their aliases
	GBPA       uint32          // in effect
	Flags      uint32
	Last       smmuv3.Event // that others may be merged with, and its index
	LastAt     uint32
	NumStalled uint32
	NumStreams uint32
}

// Flags of savedDevice.
const (
	stateFailed     = 1 << iota // Service Failure Mode
	stateRefetch                // an STE is to be fetched again
	stateATCTimeout             // the next SYNC has to tell
	stateMerge                  // Last means something

	stateFlags = 1<<iota - 1
)

// savedStall is a transaction that the guest was told is stalled.
type savedStall struct {
	StreamID uint32
	STAG     uint16
}

// savedStream is a stream. A stage that translates is written as the STE that means
// it.
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
	streamSuspect // its host had not invalidated what it was to
	streamL1STD   // Walked[0] means something
	streamSTE     // Walked[1] does

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
		p, _ = binary.Append(p, binary.LittleEndian, part) // it fails for types of no fixed size alone
	}
	return binary.LittleEndian.AppendUint32(p, crc32.ChecksumIEEE(p))
}

// decodeState reads what encode wrote. What it is to mean, check says.
func decodeState(p []byte) (*state, error) {
	bad := func(format string, a ...any) (*state, error) {
		return nil, fmt.Errorf("%w: %s", ErrState, fmt.Sprintf(format, a...))
	}
	if len(p) < headerSize+deviceSize+crc32.Size || string(p[:len(stateMagic)]) != stateMagic {
		return bad("%d bytes without its beginning", len(p))
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
		return bad("of version %d, and this is %d", h.Version, stateVersion)
	case uint64(h.Length) != uint64(len(whole)):
		return bad("%d bytes of %d", len(whole), h.Length)
	case crc32.ChecksumIEEE(whole[:len(whole)-crc32.Size]) != sum:
		return bad("the checksum is wrong")
	}
	next(&s.savedDevice)
	stalled, streams := uint64(s.NumStalled), uint64(s.NumStreams)
	if stalled*uint64(stallSize)+streams*uint64(savedStreamSize)+crc32.Size != uint64(len(p)) {
		return bad("%d stalled transactions and %d streams in %d bytes", stalled, streams, len(p))
	}
	s.stalled, s.streams = make([]savedStall, stalled), make([]savedStream, streams)
	next(s.stalled)
	next(s.streams)
	return &s, nil
}

// SavedIDs are the ID registers that the guest of a saved device has been shown, and
// has to be shown by the Config of the device that the state is restored into.
// Device.Attach refuses, by idr.Satisfies, a host that lacks something of them.
func SavedIDs(state []byte) (smmuv3.IDRegs, error) {
	s, err := decodeState(state)
	if err != nil {
		return smmuv3.IDRegs{}, err
	}
	if err := idr.CheckDevice(s.IDs); err != nil {
		return smmuv3.IDRegs{}, fmt.Errorf("%w: %w", ErrState, err)
	}
	return s.IDs, nil
}

// check reports whether the device can be in the state, with the streams that are
// attached to it.
func (d *Device) check(s *state) error {
	for _, f := range smmuv3.IDFields() {
		if was, is := s.IDs.Get(f), d.ids.Get(f); was != is {
			return fmt.Errorf("%w: the guest has been shown %v %d, and this device shows %d", ErrState, f, was, is)
		}
	}
	if s.IDs != *d.ids {
		return fmt.Errorf("%w: its ID registers have reserved bits", ErrState)
	}
	for w, v := range s.Regs {
		if fixed := ^d.changing(word(w)); v&fixed != d.reset[w]&fixed {
			return fmt.Errorf("%w: the register at %#x cannot be %#x", ErrState, 4*w, v)
		}
	}
	if s.Regs[wIRQCtrl] != s.Regs[wIRQCtrlAck] {
		return fmt.Errorf("%w: IRQ_CTRL is acknowledged at once", ErrState)
	}
	if s.Flags&^stateFlags != 0 || s.GBPA&^uint32(smmuv3.GBPA_Mask&^smmuv3.GBPA_Update) != 0 {
		return fmt.Errorf("%w: bits without a meaning", ErrState)
	}
	if len(s.stalled) > d.eventq.stalls.most {
		return fmt.Errorf("%w: %d transactions are stalled, of at most %d", ErrState, len(s.stalled), d.eventq.stalls.most)
	}
	return d.checkStreams(s.streams)
}

// changing are the bits of a word that are not the same for the life of a device.
func (d *Device) changing(w word) uint32 {
	switch w {
	case wCR0ACK:
		w = wCR0
	case wIRQCtrlAck:
		w = wIRQCtrl
	case wGERROR:
		w = wGERRORN
	}
	m := d.access[w].parts[0].mask | d.access[w].parts[1].mask
	if w == wCMDQCons {
		m |= smmuv3.CMDQ_CONS_ERR
	}
	return m
}

func (d *Device) checkStreams(saved []savedStream) error {
	all := d.streams.All()
	for i := range saved {
		s, sid := &saved[i], smmuv3.StreamID(saved[i].StreamID)
		switch {
		case i > 0 && saved[i-1].StreamID >= s.StreamID:
			return fmt.Errorf("%w: stream %v is out of order", ErrState, sid)
		case d.streams.Get(sid) == nil:
			return fmt.Errorf("%w: stream %v is not attached", ErrState, sid)
		}
		if _, ok := s.stream(d.ids); !ok {
			return fmt.Errorf("%w: stream %v has no possible stage", ErrState, sid)
		}
	}
	for _, st := range all {
		if len(saved) != len(all) && !contains(saved, st.ID) {
			return fmt.Errorf("%w: stream %v is attached, and was not", ErrState, st.ID)
		}
	}
	return nil
}

func contains(saved []savedStream, sid smmuv3.StreamID) bool {
	for i := range saved {
		if saved[i].StreamID == uint32(sid) {
			return true
		}
	}
	return false
}

func saveStream(st *trap.Stream) savedStream {
	v := st.Save()
	g := v.Stage
	s := savedStream{
		StreamID: uint32(v.ID), Disposition: uint8(g.Disposition), Cause: uint8(g.Cause), FetchAddr: uint64(g.FetchAddr),
		Walked: [2]uint64{uint64(v.Walked[0].GPA), uint64(v.Walked[1].GPA)},
	}
	if g.Disposition.Translates() {
		ste := g.STE()
		s.STE = [4]uint64(ste[:4])
	}
	for flag, on := range map[uint16]bool{
		streamDisabled: g.Disabled, streamUsedATS: v.UsedATS, streamSuspect: hostOf(st).suspect,
		streamL1STD: v.Walked[0].Len != 0, streamSTE: v.Walked[1].Len != 0,
	} {
		if on {
			s.Flags |= flag
		}
	}
	return s
}

// stream is the stream that was saved; ok is false if none can have been so.
func (s *savedStream) stream(ids *smmuv3.IDRegs) (v trap.Saved, ok bool) {
	g := bridge.GuestStage{
		Disposition: bridge.Disposition(s.Disposition), Disabled: s.Flags&streamDisabled != 0,
		Cause: smmuv3.EventType(s.Cause), FetchAddr: guestmem.GPA(s.FetchAddr),
	}
	reported := g.Cause != 0 || g.FetchAddr != 0
	switch g.Disposition {
	case bridge.Abort:
		switch g.Cause {
		case 0, smmuv3.CBadStreamID, smmuv3.FSTEFetch, smmuv3.CBadSTE:
			ok = !(g.Disabled && reported) && (g.FetchAddr == 0 || g.Cause == smmuv3.FSTEFetch)
		}
		ok = ok && s.STE == [4]uint64{}
	case bridge.Bypass:
		ok = !reported && s.STE == [4]uint64{}
	case bridge.Translate, bridge.TranslateS2, bridge.TranslateNested:
		ok = !reported && !g.Disabled
		ste := smmuv3.STE(append(s.STE[:], 0, 0, 0, 0))
		g = trap.StageOf(ste, ids)
		ok = ok && g.Disposition == bridge.Disposition(s.Disposition) && g.STE() == ste
	}
	v = trap.Saved{ID: smmuv3.StreamID(s.StreamID), Stage: g, UsedATS: s.Flags&streamUsedATS != 0}
	for i, flag := range [...]uint16{streamL1STD, streamSTE} {
		if s.Flags&flag != 0 {
			v.Walked[i] = guestmem.Range{GPA: guestmem.GPA(s.Walked[i]), Len: [...]uint64{smmuv3.L1STDSize, smmuv3.STESize}[i]}
		}
	}
	return v, ok && s.Flags&^streamFlags == 0
}

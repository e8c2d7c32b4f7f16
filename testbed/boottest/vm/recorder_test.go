package vm

import (
	"errors"
	"testing"

	"github.com/go-vsmmu/vsmmuv3/internal/asjson"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

func TestRecorderFillsTheReport(t *testing.T) {
	rec := newRecorder()
	ep := &endpoint{id: 0x32, serial: "rogue", dma: soft.NewEndpoint()}
	rec.endpoints[0x32] = ep
	trace := rec.trace()

	trace.Command(smmuv3.Command{0x46}, smmuv3.CERROR_NONE) // CMD_SYNC, §4.7.3
	trace.Command(smmuv3.Command{0x46}, smmuv3.CERROR_NONE)
	trace.Command(smmuv3.Command{0xff}, smmuv3.CERROR_ILL)
	for _, acAb := range []uint64{0b00, 0b01, 0b10} { // CMD_RESUME, §4.7.1
		trace.Command(smmuv3.Command{0x44 | acAb<<12 | 0x32<<32, 0x1234}, smmuv3.CERROR_NONE)
	}
	trace.Interrupt(vsmmu.LineEventQ)
	trace.Event(smmuv3.Event{0x10 | 0x32<<32, 1<<31 | 0x1234, 0xabc000}, vsmmu.Recorded)
	trace.Event(smmuv3.Event{0x10 | 0x21<<32}, vsmmu.Recorded)
	trace.Event(smmuv3.Event{0x10 | 0x32<<32}, vsmmu.Overflowed)
	stage := bridge.GuestStage{
		Disposition: bridge.Translate, S1ContextPtr: 0x4000, S1CDMax: 6, S1Fmt: 0, S1DSS: smmuv3.S1DSSSubstream0,
		S1CIR: 1, S1COR: 2, S1CSH: 3, S1STALLD: true,
	}
	trace.Bind(0x32, stage, nil)
	trace.Bind(0x32, bridge.GuestStage{Cause: smmuv3.CBadSTE}, errors.New("refused"))

	r := &report.Report{Fault: report.Fault{StreamID: 0x32}}
	rec.fill(r)
	assert.Equal(t, map[string]uint64{"SYNC": 2, "RESUME": 3, "opcode 0xff (error)": 1}, r.Commands)
	assert.Equal(t, map[string]uint64{"F_TRANSLATION": 2, "F_TRANSLATION (overflowed)": 1}, r.Events)
	assert.Equal(t, map[string]uint64{"eventq": 1}, r.Interrupts)
	assert.Equal(t, []report.Event{{
		Type: 0x10, Name: "F_TRANSLATION", StreamID: 0x32, Address: 0xabc000, Words: [4]uint64{0x3200000010, 0x80001234, 0xabc000},
		Stall: true, STAG: 0x1234,
	}},
		r.Fault.Device, "only those of the misbehaving endpoint")
	assert.Equal(t, []report.Resume{{StreamID: 0x32, STAG: 0x1234, How: "RAZ/WI"}, {StreamID: 0x32, STAG: 0x1234, How: "retry"}, {StreamID: 0x32, STAG: 0x1234, How: "abort"}},
		r.Fault.Resumes)
	assert.Equal(t, []asjson.Bind{
		{
			Disposition: "translate", S1ContextPtr: 0x4000, S1Fmt: "linear", S1CDMax: 6, S1DSS: "substream 0",
			S1CIR: 1, S1COR: 2, S1CSH: 3, S1STALLD: true, EATS: "none", Text: stage.String(),
		},
		{Disposition: "abort", Cause: "C_BAD_STE", Error: "refused", Text: "abort with C_BAD_STE"},
	}, r.Streams[0].Binds)
	assert.Equal(t, uint32(bridge.Translate), ep.bound.Load(), "a failed bind keeps the earlier stage")

	rec.message(0x32)
	assert.Equal(t, map[string]uint64{"translate": 1}, ep.report().Messages, "by the stage that is bound")
}

func TestRecorderIsBounded(t *testing.T) {
	rec := newRecorder()
	rec.endpoints[0x10] = &endpoint{id: 0x10, dma: soft.NewEndpoint()}
	trace := rec.trace()
	for i := range 10000 {
		trace.Bind(0x10, bridge.GuestStage{}, nil)
		trace.Event(smmuv3.Event{uint64(i)}, vsmmu.Recorded)
		trace.Command(smmuv3.Command{uint64(i)}, smmuv3.CERROR_ILL)
		trace.Command(smmuv3.Command{0x44}, smmuv3.CERROR_NONE)
	}
	r := &report.Report{}
	rec.fill(r)
	assert.Len(t, r.Streams[0].Binds, maxBinds)
	assert.Equal(t, 10000, r.Streams[0].BindCalls)
	assert.LessOrEqual(t, len(rec.kept), maxEvents)
	assert.Len(t, rec.resumed, maxEvents)
	assert.LessOrEqual(t, len(r.Events), 256)
	assert.LessOrEqual(t, len(r.Commands), 2*256)
}

func TestEndpointCountsByTheBoundStage(t *testing.T) {
	ep := &endpoint{dma: soft.NewEndpoint()} // not attached: every access fails
	assert.Error(t, ep.ReadAt(make([]byte, 8), 0))
	assert.Error(t, ep.WriteAt(make([]byte, 8), 0))
	assert.Equal(t, uint64(2), ep.report().Refused)
	assert.Empty(t, ep.report().Moved)

	assert.NoError(t, ep.count(uint32(bridge.Bypass), 8, nil))
	assert.NoError(t, ep.count(uint32(bridge.Translate), 16, nil))
	assert.Equal(t, map[string]uint64{"bypass": 8, "translate": 16}, ep.report().Moved)
}

// §4.4.1.1: Leaf is bit 0 of the second word, TTL bits 9:8.
func TestRecorderCountsInvalidationsOfTables(t *testing.T) {
	rec := newRecorder()
	for _, c := range []smmuv3.Command{
		{0x12, 0x1000 | 1<<10 | 3<<8},     // TLBI_NH_VA, Leaf = 0, TTL = 3
		{0x12, 0x1000 | 1<<10 | 3<<8 | 1}, // Leaf = 1
		{0x2a, 0x1000},                    // TLBI_S2_IPA, Leaf = 0, TTL = 0
		{0x11, 0},                         // TLBI_NH_ASID has no Leaf
		{0x05 | 0x10<<32, 0},              // CFGI_CD with Leaf = 0
	} {
		rec.trace().Command(c, smmuv3.CERROR_NONE)
	}
	r := new(report.Report)
	rec.fill(r)
	assert.Equal(t, report.RemovedTables{TLBI: 2, Hinted: 1}, r.Removed)
}

package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The words of each record follow the layouts of §7.3.2 to §7.3.20.
func TestNewEvent(t *testing.T) {
	const (
		sid   = StreamID(0x8765_4321)
		sub   = SubstreamID(0xf_edcb)
		fetch = 0xffff_1234_5678_9abf // bits [63:56] and [2:0] are not in the record
		ipa   = 0xffff_1234_5678_9abc // bits [11:0] of an IPA are not in the record
	)
	read := Access{Addr: 0xff00_1234_5678_9abc, Read: true}
	exec := Access{Addr: 1, Read: true, Privileged: true, Instr: true}
	write := Access{Addr: 2, Privileged: true, Instr: true}
	at1 := StageFault{Class: ClassIN, IPA: ipa}
	at2 := StageFault{Stage2: true, Class: ClassTT, IPA: ipa}
	for _, c := range []struct {
		name      string
		got, want Event
	}{
		{"F_UUT", NewFUUT(sid, exec, 0xcafe), Event{0x8765_4321_0000_0001, 0x0000_000e_cafe_0000, 1}},
		{"C_BAD_STREAMID", NewCBadStreamID(sid), Event{0x8765_4321_0000_0002}},
		{"F_STE_FETCH", NewFSTEFetch(sid, fetch, 0xcafe), Event{0x8765_4321_0000_0003, 0xcafe, 0, 0x00ff_1234_5678_9ab8}},
		{"C_BAD_STE", NewCBadSTE(sid), Event{0x8765_4321_0000_0004}},
		{"C_BAD_STE/SubstreamID", NewCBadSTE(sid).WithSubstream(sub), Event{0x8765_4321_fedc_b804}},
		{"F_BAD_ATS_TREQ", NewFBadATSTReq(sid, 0xff00_0000_0000_1000), Event{0x8765_4321_0000_0005, 0, 0xff00_0000_0000_1000}},
		{"F_STREAM_DISABLED", NewFStreamDisabled(sid), Event{0x8765_4321_0000_0006}},
		{"F_TRANSL_FORBIDDEN/read", NewFTranslForbidden(sid, 0x1000, true), Event{0x8765_4321_0000_0007, 0x0000_0008_0000_0000, 0x1000}},
		{"F_TRANSL_FORBIDDEN/write", NewFTranslForbidden(sid, 0x1000, false), Event{0x8765_4321_0000_0007, 0, 0x1000}},
		{"C_BAD_SUBSTREAMID has no SSV", NewCBadSubstreamID(sid, sub), Event{0x8765_4321_fedc_b008}},
		{"F_CD_FETCH", NewFCDFetch(sid, fetch, 0), Event{0x8765_4321_0000_0009, 0, 0, 0x00ff_1234_5678_9ab8}},
		{"C_BAD_CD", NewCBadCD(sid).WithSubstream(sub), Event{0x8765_4321_fedc_b80a}},
		{"F_WALK_EABT", NewFWalkEABT(sid, read, StageFault{Class: ClassTT}, fetch, 0xcafe), Event{0x8765_4321_0000_000b, 0x0000_0108_0000_cafe, 0xff00_1234_5678_9abc, 0x00ff_1234_5678_9ab8}},
		{"F_WALK_EABT/stage 2", NewFWalkEABT(sid, read, StageFault{Stage2: true, Class: ClassIN, IPA: ipa}, fetch, 0), Event{0x8765_4321_0000_000b, 0x0000_0288_0000_0000, 0xff00_1234_5678_9abc, 0x00ff_1234_5678_9ab8}},
		{"F_TRANSLATION/stage 1 has no IPA", NewFTranslation(sid, read, at1), Event{0x8765_4321_0000_0010, 0x0000_0208_0000_0000, 0xff00_1234_5678_9abc}},
		{"F_TRANSLATION/stage 2", NewFTranslation(sid, read, at2), Event{0x8765_4321_0000_0010, 0x0000_0188_0000_0000, 0xff00_1234_5678_9abc, 0x00ff_1234_5678_9000}},
		{"F_ADDR_SIZE", NewFAddrSize(sid, exec, at1), Event{0x8765_4321_0000_0011, 0x0000_020e_0000_0000, 1}},
		{"F_ACCESS/a write is no instruction fetch", NewFAccess(sid, write, at1), Event{0x8765_4321_0000_0012, 0x0000_0202_0000_0000, 2}},
		{"F_PERMISSION", NewFPermission(sid, exec, StageFault{Stage2: true, Class: ClassCD, IPA: ipa}), Event{0x8765_4321_0000_0013, 0x0000_008e_0000_0000, 1, 0x00ff_1234_5678_9000}},
		{"F_TLB_CONFLICT", NewFTLBConflict(sid, read, 0xcafe), Event{0x8765_4321_0000_0020, 0x0000_0008_0000_cafe, 0xff00_1234_5678_9abc}},
		{"F_CFG_CONFLICT", NewFCfgConflict(sid, 0xcafe), Event{0x8765_4321_0000_0021, 0xcafe}},
		{"E_PAGE_REQUEST", NewEPageRequest(sid, 0x1fff), Event{0x8765_4321_0000_0024, 0, 0x1000}},
		{"F_VMS_FETCH", NewFVMSFetch(sid, fetch, 0xcafe), Event{0x8765_4321_0000_0025, 0xcafe, 0, 0x00ff_1234_5678_9ab8}},
	} {
		t.Run(c.name, func(t *testing.T) {
			assert.Equal(t, c.want, c.got, "%x", c.got)
			for _, f := range c.got.Fields() {
				assert.NotEqual(t, "reserved", f.Name, "the record has a bit of no field")
			}
		})
	}
}

// Chapter 8.
func TestNewPageRequest(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want PageRequest
	}{
		{"read", NewPageRequest(0x8765_4321, 0x1ff, 0xffff_ffff_ffff_ffff, PageAccess{Read: true}, false), PageRequest{0x1000_0000_8765_4321, 0xffff_ffff_ffff_f1ff}},
		{"write, last", NewPageRequest(1, 2, 0x3000, PageAccess{Write: true}, true), PageRequest{0x6000_0000_0000_0001, 0x3002}},
		{"SubstreamID", NewPageRequest(1, 2, 0x3000, PageAccess{Exec: true, Privileged: true}, false).WithSubstream(0xf_edcb), PageRequest{0x8c0f_edcb_0000_0001, 0x3002}},
		{"Stop PASID marker", NewStopMarker(1, 0xf_edcb), PageRequest{0xc00f_edcb_0000_0001}},
	} {
		assert.Equal(t, c.want, c.got, "%s: %x", c.name, c.got)
		var p [PageReqSize]byte
		c.got.Put(&p)
		assert.Equal(t, c.got, LoadPageRequest(&p), c.name)
	}
}

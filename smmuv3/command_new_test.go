package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The words of each command follow the layouts of Chapter 4. Arguments have every bit of their
// field set, or differ in each byte.
func TestNewCommand(t *testing.T) {
	const (
		sid  = StreamID(0x8765_4321)
		sub  = SubstreamID(0xf_edcb)
		vmid = VMID(0x8899)
		asid = ASID(0xaabb)
		addr = 0xffff_1234_5678_9fff // the low twelve bits are not in the command
	)
	for _, c := range []struct {
		name      string
		cmd, want Command
	}{
		{"PREFETCH_CONFIG", NewPrefetchConfig(sid), Command{0x8765_4321_0000_0001}},
		{"PREFETCH_CONFIG/SubstreamID", NewPrefetchConfig(sid).WithSubstream(sub), Command{0x8765_4321_fedc_b801}},
		{"PREFETCH_ADDR", NewPrefetchAddr(sid, addr, 3, 9), Command{0x8765_4321_0000_0002, 0xffff_1234_5678_9123}},
		{"PREFETCH_ADDR/SubstreamID", NewPrefetchAddr(sid, 0, 31, 0).WithSubstream(sub), Command{0x8765_4321_fedc_b802, 0x1f}},
		{"CFGI_STE", NewCfgiSTE(sid, false), Command{0x8765_4321_0000_0003, 0}},
		{"CFGI_STE/leaf", NewCfgiSTE(sid, true), Command{0x8765_4321_0000_0003, 1}},
		{"CFGI_STE_RANGE", NewCfgiSTERange(sid, 7), Command{0x8765_4321_0000_0004, 7}},
		{"CFGI_ALL", NewCfgiAll(), Command{0x04, 31}},
		{"CFGI_CD", NewCfgiCD(sid, sub, false), Command{0x8765_4321_fedc_b005, 0}},
		{"CFGI_CD/leaf", NewCfgiCD(sid, sub, true), Command{0x8765_4321_fedc_b005, 1}},
		{"CFGI_CD_ALL", NewCfgiCDAll(sid), Command{0x8765_4321_0000_0006}},
		{"CFGI_VMS_PIDM", NewCfgiVMSPIDM(vmid), Command{0x0000_8899_0000_0007}},

		{"TLBI_NH_ALL", NewTLBINHAll(vmid), Command{0x0000_8899_0000_0010}},
		{"TLBI_NH_ASID", NewTLBINHASID(vmid, asid), Command{0xaabb_8899_0000_0011}},
		{"TLBI_NH_VA", NewTLBINHVA(vmid, asid, addr, false), Command{0xaabb_8899_0000_0012, 0xffff_1234_5678_9000}},
		{"TLBI_NH_VA/leaf", NewTLBINHVA(vmid, asid, addr, true), Command{0xaabb_8899_0000_0012, 0xffff_1234_5678_9001}},
		{"TLBI_NH_VAA", NewTLBINHVAA(vmid, addr, true), Command{0x0000_8899_0000_0013, 0xffff_1234_5678_9001}},
		{"TLBI_EL2_ALL", NewTLBIEL2All(), Command{0x20}},
		{"TLBI_EL2_ASID", NewTLBIEL2ASID(asid), Command{0xaabb_0000_0000_0021}},
		{"TLBI_EL2_VA", NewTLBIEL2VA(asid, addr, true), Command{0xaabb_0000_0000_0022, 0xffff_1234_5678_9001}},
		{"TLBI_EL2_VAA", NewTLBIEL2VAA(addr, false), Command{0x23, 0xffff_1234_5678_9000}},
		{"TLBI_S12_VMALL", NewTLBIS12VMAll(vmid), Command{0x0000_8899_0000_0028}},
		{"TLBI_S2_IPA", NewTLBIS2IPA(vmid, addr, true), Command{0x0000_8899_0000_002a, 0xffff_1234_5678_9001}},
		{"TLBI_NSNH_ALL", NewTLBINSNHAll(), Command{0x30}},
		{"range of 4 KiB pages", NewTLBINHVA(0, asid, addr, true).WithRange(Granule4K, 31, 0, 3), Command{0xaabb_0000_0001_f012, 0xffff_1234_5678_9701}},
		{"range of 16 KiB pages", NewTLBIS2IPA(vmid, 0, false).WithRange(Granule16K, 0, 39, 0), Command{0x0000_8899_0270_002a, 0x800}},
		{"level of 64 KiB pages", NewTLBINHVAA(0, 0, false).WithRange(Granule64K, 0, 0, 2), Command{0x13, 0xe00}},
		{"range of no granule", NewTLBINHVAA(0, 0, false).WithRange(0, 5, 5, 2), Command{0x13}},

		{"ATC_INV", NewATCInv(sid, addr, 12), Command{0x8765_4321_0000_0040, 0xffff_1234_5678_900c}},
		{"ATC_INV/SubstreamID", NewATCInv(sid, 0, ATCSizeAll).WithSubstream(sub), Command{0x8765_4321_fedc_b840, 52}},
		{"ATC_INV/global", NewATCInv(sid, 0, 0).WithSubstream(0).WithGlobal(), Command{0x8765_4321_0000_0a40}},
		{"ATC_INV of a stream", NewATCInvAll(sid)[0], Command{0x8765_4321_0000_0040, 52}},
		{"ATC_INV of a stream's SubstreamIDs", NewATCInvAll(sid)[1], Command{0x8765_4321_0000_0a40, 52}},
		{"PRI_RESP", NewPRIResp(sid, 0x1ff, PRGSuccess), Command{0x8765_4321_0000_0041, 0x21ff}},
		{"PRI_RESP/SubstreamID", NewPRIResp(sid, 0, PRGInvalid).WithSubstream(sub), Command{0x8765_4321_fedc_b841, 0x1000}},
		{"PRI_RESP/failure", NewPRIResp(sid, 5, PRGFailure), Command{0x8765_4321_0000_0041, 5}},

		{"RESUME/retry", NewResume(sid, 0xcafe, ResumeRetry), Command{0x8765_4321_0000_1044, 0xcafe}},
		{"RESUME/abort", NewResume(sid, 0xcafe, ResumeAbort), Command{0x8765_4321_0000_2044, 0xcafe}},
		{"RESUME/RAZ/WI", NewResume(sid, 0xcafe, ResumeRAZWI), Command{0x8765_4321_0000_0044, 0xcafe}},
		{"STALL_TERM", NewStallTerm(sid), Command{0x8765_4321_0000_0045}},
		{"SYNC", NewSync(), Command{0x46}},
		{"SYNC/wired interrupt", NewSyncIRQ(MSIWrite{}), Command{0x1046}},
		{"SYNC/MSI", NewSyncIRQ(MSIWrite{Addr: 0x00ff_ffff_8090_0043, Data: 0x1234_5678, SH: 3, Attr: 0xf}), Command{0x1234_5678_0fc0_1046, 0x00ff_ffff_8090_0040}},
		{"SYNC/SEV", NewSyncSEV(), Command{0x2046}},
		{"DPTI_ALL", NewDPTIAll(), Command{0x70}},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, c.cmd, "%x", c.cmd) })
	}
}

// An argument wider than its field loses its upper bits, and changes no other field.
func TestNewCommand_wide_arguments(t *testing.T) {
	assert.Equal(t, Command{0x03_0000_0004, 0x1f}, NewCfgiSTERange(3, ^uint(0)))
	assert.Equal(t, Command{0x03_ffff_f005}, NewCfgiCD(3, ^SubstreamID(0), false))
	assert.Equal(t, Command{0x03_0000_0002, 0x3ff}, NewPrefetchAddr(3, 0, ^uint(0), ^uint(0)))
	assert.Equal(t, Command{0x03_0000_0040, 0x3f}, NewATCInv(3, 0, ^uint(0)))
	assert.Equal(t, Command{0x03_0000_0041, 0x31ff}, NewPRIResp(3, 0xffff, 0xff))
	assert.Equal(t, Command{0x03_0000_3044, 0}, NewResume(3, 0, 0xff))
	assert.Equal(t, Command{0x0fc0_1046, 0x00ff_ffff_ffff_fffc}, NewSyncIRQ(MSIWrite{Addr: ^uint64(0), SH: 0xff, Attr: 0xff}))
	assert.Equal(t, Command{0x03f1_f012, 0x0700}, NewTLBINHVA(0, 0, 0, false).WithRange(Granule4K, ^uint(0), ^uint(0), ^uint(0)))
}

// Every constructor's command is legal on an SMMU with every feature.
func TestNewCommand_is_legal(t *testing.T) {
	all := ids(S1P, 1, S2P, 1, Hyp, 1, MPAM, 1, ATS, 1, PRI, 1, RIL, 1, DS, 1, DPT, 1)
	cmds := append([]Command{
		NewPrefetchConfig(1), NewPrefetchAddr(1, 0, 0, 0), NewCfgiSTE(1, true), NewCfgiSTERange(1, 3), NewCfgiAll(),
		NewCfgiCD(1, 2, true), NewCfgiCDAll(1), NewCfgiVMSPIDM(1), NewTLBINHAll(1), NewTLBINHASID(1, 2),
		NewTLBINHVA(1, 2, 3, true).WithRange(Granule16K, 0, 0, 1), NewTLBINHVAA(1, 2, true), NewTLBIEL2All(), NewTLBIEL2ASID(1),
		NewTLBIEL2VA(1, 2, true), NewTLBIEL2VAA(1, true), NewTLBIS12VMAll(1), NewTLBIS2IPA(1, 2, true), NewTLBINSNHAll(),
		NewPRIResp(1, 2, PRGSuccess), NewResume(1, 2, ResumeRetry), NewStallTerm(1), NewSync(), NewSyncIRQ(MSIWrite{Addr: 8}),
		NewSyncSEV(), NewDPTIAll(),
	}, func() []Command { a := NewATCInvAll(1); return a[:] }()...)
	for _, c := range cmds {
		assert.Nil(t, c.Illegal(&all), c.String())
	}
}

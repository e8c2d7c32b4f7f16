package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// §6.2.1, and "Accessible at" of each register in §6.3.
func TestRegisterOffsets(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"IDR0", RegIDR0, 0x0}, {"IDR1", RegIDR1, 0x4}, {"IDR2", RegIDR2, 0x8}, {"IDR3", RegIDR3, 0xc},
		{"IDR4", RegIDR4, 0x10}, {"IDR5", RegIDR5, 0x14}, {"IIDR", RegIIDR, 0x18}, {"AIDR", RegAIDR, 0x1c},
		{"CR0", RegCR0, 0x20}, {"CR0ACK", RegCR0ACK, 0x24}, {"CR1", RegCR1, 0x28}, {"CR2", RegCR2, 0x2c},
		{"STATUSR", RegSTATUSR, 0x40}, {"GBPA", RegGBPA, 0x44}, {"AGBPA", RegAGBPA, 0x48},
		{"IRQ_CTRL", RegIRQCtrl, 0x50}, {"IRQ_CTRLACK", RegIRQCtrlAck, 0x54},
		{"GERROR", RegGERROR, 0x60}, {"GERRORN", RegGERRORN, 0x64},
		{"GERROR_IRQ_CFG0", RegGErrorIRQ0, 0x68}, {"GERROR_IRQ_CFG1", RegGErrorIRQ1, 0x70}, {"GERROR_IRQ_CFG2", RegGErrorIRQ2, 0x74},
		{"STRTAB_BASE", RegSTRTABBase, 0x80}, {"STRTAB_BASE_CFG", RegSTRTABCfg, 0x88},
		{"CMDQ_BASE", RegCMDQBase, 0x90}, {"CMDQ_PROD", RegCMDQProd, 0x98}, {"CMDQ_CONS", RegCMDQCons, 0x9c},
		{"EVENTQ_BASE", RegEVENTQBase, 0xa0}, {"EVENTQ_PROD", RegEVENTQProd, 0x100a8}, {"EVENTQ_CONS", RegEVENTQCons, 0x100ac},
		{"EVENTQ_IRQ_CFG0", RegEventQIRQ0, 0xb0}, {"EVENTQ_IRQ_CFG1", RegEventQIRQ1, 0xb8}, {"EVENTQ_IRQ_CFG2", RegEventQIRQ2, 0xbc},
		{"PRIQ_BASE", RegPRIQBase, 0xc0}, {"PRIQ_PROD", RegPRIQProd, 0x100c8}, {"PRIQ_CONS", RegPRIQCons, 0x100cc},
		{"PRIQ_IRQ_CFG0", RegPRIQIRQ0, 0xd0}, {"PRIQ_IRQ_CFG1", RegPRIQIRQ1, 0xd8}, {"PRIQ_IRQ_CFG2", RegPRIQIRQ2, 0xdc},
		{"IDR6", RegIDR6, 0x190}, {"ID_REGS", RegIDRegs, 0xfd0}, {"two pages of 64 KiB", RegisterSpace, 128 << 10},
	} {
		assert.Equal(t, c.want, c.got, c.name)
	}
}

// The fields of the control and error registers; sections as named.
func TestRegisterFields(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"§6.3.9 CR0.SMMUEN", CR0SMMUEN, 1 << 0}, {"§6.3.9 CR0.PRIQEN", CR0PRIQEN, 1 << 1}, {"§6.3.9 CR0.EVENTQEN", CR0EVENTQEN, 1 << 2},
		{"§6.3.9 CR0.CMDQEN", CR0CMDQEN, 1 << 3}, {"§6.3.9 CR0.ATSCHK", CR0ATSCHK, 1 << 4},
		{"§6.3.11 CR1.QUEUE_*", CR1QueueMask, 0x3f}, {"§6.3.11 CR1.TABLE_*", CR1TableMask, 0xfc0},
		{"§6.3.12 CR2.E2H", CR2E2H, 1 << 0}, {"§6.3.12 CR2.RECINVSID", CR2RECINVSID, 1 << 1},
		{"§6.3.12 CR2.PTM", CR2PTM, 1 << 2}, {"§6.3.12 CR2.REC_CFG_ATS", CR2RECCFGATS, 1 << 3},
		{"§6.3.14 GBPA.ABORT", uint64(GBPAAbort), 1 << 20}, {"§6.3.14 GBPA.Update", uint64(GBPAUpdate), 1 << 31},
		{"§6.3.14 GBPA", uint64(GBPAMask), 0x801f_3f1f},
		{"§6.3.16 IRQ_CTRL.GERROR_IRQEN", IRQCtrlGERROR, 1 << 0}, {"§6.3.16 IRQ_CTRL.PRIQ_IRQEN", IRQCtrlPRIQ, 1 << 1}, {"§6.3.16 IRQ_CTRL.EVENTQ_IRQEN", IRQCtrlEVENTQ, 1 << 2},
		{"§6.3.19 CMDQ_ERR", GErrorCMDQ, 1 << 0}, {"§6.3.19 EVENTQ_ABT_ERR", GErrorEVENTQAbt, 1 << 2}, {"§6.3.19 PRIQ_ABT_ERR", GErrorPRIQAbt, 1 << 3},
		{"§6.3.19 MSI_CMDQ_ABT_ERR", GErrorMSICMDQAbt, 1 << 4}, {"§6.3.19 MSI_EVENTQ_ABT_ERR", GErrorMSIEVENTQAbt, 1 << 5},
		{"§6.3.19 MSI_PRIQ_ABT_ERR", GErrorMSIPRIQAbt, 1 << 6}, {"§6.3.19 MSI_GERROR_ABT_ERR", GErrorMSIGERRORAbt, 1 << 7},
		{"§6.3.19 SFM_ERR", GErrorSFM, 1 << 8}, {"§6.3.19 GERROR", GErrorMask, 0x1fd},
		{"§6.3.24 STRTAB_BASE", STRTABBaseMask, 0x40ff_ffff_ffff_ffc0}, {"§6.3.25 STRTAB_BASE_CFG", STRTABCfgMask, 0x3_07ff},
		{"§6.3.25 STRTAB_BASE_CFG.LOG2SIZE", STRTABCfgLog2Size, 0x3f},
		{"§6.3.26 RA", BaseRA, 1 << 62}, {"§6.3.95 OVFLG", OverflowFlag, 1 << 31},
		{"§6.3.30 IRQ_CFG0.ADDR", IRQCfgAddrMask, 0x00ff_ffff_ffff_fffc},
		{"§6.3.28 CMDQ_CONS.ERR", CmdqConsErrMask, 0x7f00_0000}, {"§6.3.28 CMDQ_CONS.ERR, shift", CmdqConsErrShift, 24},
		{"§7.1 CERROR_NONE", uint64(CErrorNone), 0}, {"§7.1 CERROR_ILL", uint64(CErrorIll), 1},
		{"§7.1 CERROR_ABT", uint64(CErrorAbt), 2}, {"§7.1 CERROR_ATC_INV_SYNC", uint64(CErrorATCInvSync), 3},
	} {
		assert.Equal(t, c.want, c.got, c.name)
	}
	assert.True(t, GBPA(0x0010_0000).Abort())
	assert.False(t, GBPA(0xffef_ffff).Abort())
}

package smmuv3

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

// The offsets of §6.2.1 and of each register's section in §6.3.
func TestRegisterOffsets(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"IDR0", RegIDR0, 0x0}, {"IDR1", RegIDR1, 0x4}, {"IDR2", RegIDR2, 0x8}, {"IDR3", RegIDR3, 0xc},
		{"IDR4", RegIDR4, 0x10}, {"IDR5", RegIDR5, 0x14}, {"IIDR", RegIIDR, 0x18}, {"AIDR", RegAIDR, 0x1c},
		{"CR0", RegCR0, 0x20}, {"CR0ACK", RegCR0ACK, 0x24}, {"CR1", RegCR1, 0x28}, {"CR2", RegCR2, 0x2c},
		{"STATUSR", RegSTATUSR, 0x40}, {"GBPA", RegGBPA, 0x44}, {"AGBPA", RegAGBPA, 0x48},
		{"IRQ_CTRL", RegIRQ_CTRL, 0x50}, {"IRQ_CTRLACK", RegIRQ_CTRLACK, 0x54},
		{"GERROR", RegGERROR, 0x60}, {"GERRORN", RegGERRORN, 0x64},
		{"GERROR_IRQ_CFG0", RegGERROR_IRQ_CFG0, 0x68}, {"GERROR_IRQ_CFG1", RegGERROR_IRQ_CFG1, 0x70}, {"GERROR_IRQ_CFG2", RegGERROR_IRQ_CFG2, 0x74},
		{"STRTAB_BASE", RegSTRTAB_BASE, 0x80}, {"STRTAB_BASE_CFG", RegSTRTAB_BASE_CFG, 0x88},
		{"CMDQ_BASE", RegCMDQ_BASE, 0x90}, {"CMDQ_PROD", RegCMDQ_PROD, 0x98}, {"CMDQ_CONS", RegCMDQ_CONS, 0x9c},
		{"EVENTQ_BASE", RegEVENTQ_BASE, 0xa0}, {"EVENTQ_PROD", RegEVENTQ_PROD, 0x100a8}, {"EVENTQ_CONS", RegEVENTQ_CONS, 0x100ac},
		{"EVENTQ_IRQ_CFG0", RegEVENTQ_IRQ_CFG0, 0xb0}, {"EVENTQ_IRQ_CFG1", RegEVENTQ_IRQ_CFG1, 0xb8}, {"EVENTQ_IRQ_CFG2", RegEVENTQ_IRQ_CFG2, 0xbc},
		{"PRIQ_BASE", RegPRIQ_BASE, 0xc0}, {"PRIQ_PROD", RegPRIQ_PROD, 0x100c8}, {"PRIQ_CONS", RegPRIQ_CONS, 0x100cc},
		{"PRIQ_IRQ_CFG0", RegPRIQ_IRQ_CFG0, 0xd0}, {"PRIQ_IRQ_CFG1", RegPRIQ_IRQ_CFG1, 0xd8}, {"PRIQ_IRQ_CFG2", RegPRIQ_IRQ_CFG2, 0xdc},
		{"IDR6", RegIDR6, 0x190}, {"ID_REGS", RegID_REGS, 0xfd0}, {"two pages of 64 KiB", RegisterSpace, 128 << 10},
	} {
		assert.Equal(t, c.want, c.got, c.name)
	}
}

// The masks of fields, with their sections.
func TestRegisterMasks(t *testing.T) {
	for _, c := range []struct {
		name      string
		got, want uint64
	}{
		{"§6.3.9 CR0.SMMUEN", CR0_SMMUEN, 1 << 0}, {"§6.3.9 CR0.PRIQEN", CR0_PRIQEN, 1 << 1}, {"§6.3.9 CR0.EVENTQEN", CR0_EVENTQEN, 1 << 2},
		{"§6.3.9 CR0.CMDQEN", CR0_CMDQEN, 1 << 3}, {"§6.3.9 CR0.ATSCHK", CR0_ATSCHK, 1 << 4},
		{"§6.3.11 CR1.QUEUE_*", CR1_QUEUE_Mask, 0x3f}, {"§6.3.11 CR1.TABLE_*", CR1_TABLE_Mask, 0xfc0},
		{"§6.3.12 CR2.E2H", CR2_E2H, 1 << 0}, {"§6.3.12 CR2.RECINVSID", CR2_RECINVSID, 1 << 1},
		{"§6.3.12 CR2.PTM", CR2_PTM, 1 << 2}, {"§6.3.12 CR2.REC_CFG_ATS", CR2_REC_CFG_ATS, 1 << 3},
		{"§6.3.14 GBPA.ABORT", uint64(GBPA_ABORT), 1 << 20}, {"§6.3.14 GBPA.Update", uint64(GBPA_Update), 1 << 31},
		{"§6.3.14 GBPA", uint64(GBPA_Mask), 0x801f_3f1f},
		{"§6.3.16 IRQ_CTRL.GERROR_IRQEN", IRQ_CTRL_GERROR_IRQEN, 1 << 0}, {"§6.3.16 IRQ_CTRL.PRIQ_IRQEN", IRQ_CTRL_PRIQ_IRQEN, 1 << 1}, {"§6.3.16 IRQ_CTRL.EVENTQ_IRQEN", IRQ_CTRL_EVENTQ_IRQEN, 1 << 2},
		{"§6.3.19 CMDQ_ERR", GERROR_CMDQ_ERR, 1 << 0}, {"§6.3.19 EVENTQ_ABT_ERR", GERROR_EVENTQ_ABT_ERR, 1 << 2}, {"§6.3.19 PRIQ_ABT_ERR", GERROR_PRIQ_ABT_ERR, 1 << 3},
		{"§6.3.19 MSI_CMDQ_ABT_ERR", GERROR_MSI_CMDQ_ABT_ERR, 1 << 4}, {"§6.3.19 MSI_EVENTQ_ABT_ERR", GERROR_MSI_EVENTQ_ABT_ERR, 1 << 5},
		{"§6.3.19 MSI_PRIQ_ABT_ERR", GERROR_MSI_PRIQ_ABT_ERR, 1 << 6}, {"§6.3.19 MSI_GERROR_ABT_ERR", GERROR_MSI_GERROR_ABT_ERR, 1 << 7},
		{"§6.3.19 SFM_ERR", GERROR_SFM_ERR, 1 << 8}, {"§6.3.19 GERROR", GERROR_Mask, 0x1fd},
		{"§6.3.24 STRTAB_BASE", STRTAB_BASE_Mask, 0x40ff_ffff_ffff_ffc0}, {"§6.3.25 STRTAB_BASE_CFG", STRTAB_BASE_CFG_Mask, 0x3_07ff},
		{"§6.3.25 STRTAB_BASE_CFG.LOG2SIZE", STRTAB_BASE_CFG_LOG2SIZE, 0x3f},
		{"§6.3.26 RA", BASE_RA, 1 << 62}, {"§6.3.95 OVFLG", OverflowFlag, 1 << 31},
		{"§6.3.30 IRQ_CFG0.ADDR", IRQ_CFG0_ADDR, 0x00ff_ffff_ffff_fffc},
		{"§6.3.28 CMDQ_CONS.ERR", CMDQ_CONS_ERR, 0x7f00_0000}, {"§6.3.28 CMDQ_CONS.ERR, shift", CMDQ_CONS_ERR_Shift, 24},
		{"§7.1 CERROR_NONE", uint64(CERROR_NONE), 0}, {"§7.1 CERROR_ILL", uint64(CERROR_ILL), 1},
		{"§7.1 CERROR_ABT", uint64(CERROR_ABT), 2}, {"§7.1 CERROR_ATC_INV_SYNC", uint64(CERROR_ATC_INV_SYNC), 3},
	} {
		assert.Equal(t, c.want, c.got, c.name)
	}
	assert.True(t, GBPA(0x0010_0000).Abort())
	assert.False(t, GBPA(0xffef_ffff).Abort())
}

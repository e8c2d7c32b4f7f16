package smmuv3

import "fmt"

// Offsets of the Non-secure registers from the SMMU's base, in bytes (§6.2.1).
// The EVENTQ and PRIQ indices are on register page 1.
const (
	RegIDR0            = 0x00000
	RegIDR1            = 0x00004
	RegIDR2            = 0x00008
	RegIDR3            = 0x0000c
	RegIDR4            = 0x00010
	RegIDR5            = 0x00014
	RegIIDR            = 0x00018
	RegAIDR            = 0x0001c
	RegCR0             = 0x00020
	RegCR0ACK          = 0x00024
	RegCR1             = 0x00028
	RegCR2             = 0x0002c
	RegSTATUSR         = 0x00040
	RegGBPA            = 0x00044
	RegAGBPA           = 0x00048
	RegIRQ_CTRL        = 0x00050
	RegIRQ_CTRLACK     = 0x00054
	RegGERROR          = 0x00060
	RegGERRORN         = 0x00064
	RegGERROR_IRQ_CFG0 = 0x00068 // 64 bits: MSI address
	RegGERROR_IRQ_CFG1 = 0x00070
	RegGERROR_IRQ_CFG2 = 0x00074
	RegSTRTAB_BASE     = 0x00080 // 64 bits
	RegSTRTAB_BASE_CFG = 0x00088
	RegCMDQ_BASE       = 0x00090 // 64 bits
	RegCMDQ_PROD       = 0x00098
	RegCMDQ_CONS       = 0x0009c
	RegEVENTQ_BASE     = 0x000a0 // 64 bits
	RegEVENTQ_IRQ_CFG0 = 0x000b0 // 64 bits: MSI address
	RegEVENTQ_IRQ_CFG1 = 0x000b8
	RegEVENTQ_IRQ_CFG2 = 0x000bc
	RegPRIQ_BASE       = 0x000c0 // 64 bits
	RegPRIQ_IRQ_CFG0   = 0x000d0 // 64 bits: MSI address
	RegPRIQ_IRQ_CFG1   = 0x000d8
	RegPRIQ_IRQ_CFG2   = 0x000dc
	RegIDR6            = 0x00190
	RegID_REGS         = 0x00fd0 // CoreSight identification, to 0xffc
	RegEVENTQ_PROD     = 0x100a8
	RegEVENTQ_CONS     = 0x100ac
	RegPRIQ_PROD       = 0x100c8
	RegPRIQ_CONS       = 0x100cc
)

// registerNames are the registers of §6.2.1 and §6.2.2 by their offset, with
// the page-0 aliases of those on page 1.
var registerNames = map[uint64]string{
	RegIDR0: "IDR0", RegIDR1: "IDR1", RegIDR2: "IDR2", RegIDR3: "IDR3", RegIDR4: "IDR4", RegIDR5: "IDR5",
	RegIIDR: "IIDR", RegAIDR: "AIDR", RegCR0: "CR0", RegCR0ACK: "CR0ACK", RegCR1: "CR1", RegCR2: "CR2",
	RegSTATUSR: "STATUSR", RegGBPA: "GBPA", RegAGBPA: "AGBPA",
	RegIRQ_CTRL: "IRQ_CTRL", RegIRQ_CTRLACK: "IRQ_CTRLACK", RegGERROR: "GERROR", RegGERRORN: "GERRORN",
	RegGERROR_IRQ_CFG0: "GERROR_IRQ_CFG0", RegGERROR_IRQ_CFG0 + 4: "GERROR_IRQ_CFG0[63:32]",
	RegGERROR_IRQ_CFG1: "GERROR_IRQ_CFG1", RegGERROR_IRQ_CFG2: "GERROR_IRQ_CFG2",
	RegSTRTAB_BASE: "STRTAB_BASE", RegSTRTAB_BASE + 4: "STRTAB_BASE[63:32]", RegSTRTAB_BASE_CFG: "STRTAB_BASE_CFG",
	RegCMDQ_BASE: "CMDQ_BASE", RegCMDQ_BASE + 4: "CMDQ_BASE[63:32]", RegCMDQ_PROD: "CMDQ_PROD", RegCMDQ_CONS: "CMDQ_CONS",
	RegEVENTQ_BASE: "EVENTQ_BASE", RegEVENTQ_BASE + 4: "EVENTQ_BASE[63:32]",
	RegEVENTQ_PROD: "EVENTQ_PROD", RegEVENTQ_CONS: "EVENTQ_CONS",
	RegEVENTQ_PROD & 0xff: "EVENTQ_PROD", RegEVENTQ_CONS & 0xff: "EVENTQ_CONS",
	RegPRIQ_PROD & 0xff: "PRIQ_PROD", RegPRIQ_CONS & 0xff: "PRIQ_CONS",
	RegEVENTQ_IRQ_CFG0: "EVENTQ_IRQ_CFG0", RegEVENTQ_IRQ_CFG0 + 4: "EVENTQ_IRQ_CFG0[63:32]",
	RegEVENTQ_IRQ_CFG1: "EVENTQ_IRQ_CFG1", RegEVENTQ_IRQ_CFG2: "EVENTQ_IRQ_CFG2",
	RegPRIQ_BASE: "PRIQ_BASE", RegPRIQ_BASE + 4: "PRIQ_BASE[63:32]",
	RegPRIQ_PROD: "PRIQ_PROD", RegPRIQ_CONS: "PRIQ_CONS", RegPRIQ_IRQ_CFG0: "PRIQ_IRQ_CFG0", RegPRIQ_IRQ_CFG0 + 4: "PRIQ_IRQ_CFG0[63:32]",
	RegPRIQ_IRQ_CFG1: "PRIQ_IRQ_CFG1", RegPRIQ_IRQ_CFG2: "PRIQ_IRQ_CFG2", RegIDR6: "IDR6",
}

// RegisterName is the name of the register at an offset, or empty if there is
// none that this package knows.
func RegisterName(off uint64) string { return registerNames[off] }

// RegisterSpace is the size of the register pages 0 and 1, in bytes, which an
// SMMU occupies at a 64 KiB aligned address (§6.1).
const RegisterSpace = 0x20000

// CR0 and CR0ACK (§6.3.9, §6.3.10).
const (
	CR0_SMMUEN   = 1 << 0
	CR0_PRIQEN   = 1 << 1
	CR0_EVENTQEN = 1 << 2
	CR0_CMDQEN   = 1 << 3
	CR0_ATSCHK   = 1 << 4
)

// CR1 (§6.3.11): the attributes with which queues and tables are accessed.
const (
	CR1_QUEUE_Mask = 0x03f // QUEUE_IC, QUEUE_OC, QUEUE_SH
	CR1_TABLE_Mask = 0xfc0 // TABLE_IC, TABLE_OC, TABLE_SH
)

// CR2 (§6.3.12).
const (
	CR2_E2H         = 1 << 0
	CR2_RECINVSID   = 1 << 1
	CR2_PTM         = 1 << 2
	CR2_REC_CFG_ATS = 1 << 3
)

// IRQ_CTRL and IRQ_CTRLACK (§6.3.16, §6.3.18).
const (
	IRQ_CTRL_GERROR_IRQEN = 1 << 0
	IRQ_CTRL_PRIQ_IRQEN   = 1 << 1
	IRQ_CTRL_EVENTQ_IRQEN = 1 << 2
)

// GERROR and GERRORN (§6.3.19, §6.3.20). An error is active while its bits in
// the two registers differ.
const (
	GERROR_CMDQ_ERR           = 1 << 0
	GERROR_EVENTQ_ABT_ERR     = 1 << 2
	GERROR_PRIQ_ABT_ERR       = 1 << 3
	GERROR_MSI_CMDQ_ABT_ERR   = 1 << 4
	GERROR_MSI_EVENTQ_ABT_ERR = 1 << 5
	GERROR_MSI_PRIQ_ABT_ERR   = 1 << 6
	GERROR_MSI_GERROR_ABT_ERR = 1 << 7
	GERROR_SFM_ERR            = 1 << 8

	GERROR_Mask = 0x1fd
)

// Fields of the 64-bit base registers and the queue indices.
const (
	// BaseRA is the read- or write-allocate hint of the base registers.
	BaseRA = 1 << 62
	// BaseAddrMask is where an address may stand in any structure of the
	// architecture: bits [55:0] (§3.4.3). What lies above the output address
	// size is RES0 for the SMMU at hand.
	BaseAddrMask = 1<<56 - 1
	// OverflowFlag is EVENTQ_PROD.OVFLG, EVENTQ_CONS.OVACKFLG and their PRIQ
	// counterparts.
	OverflowFlag = 1 << 31
	// PRIQLastOnly is PRIQ_IRQ_CFG2.LO: the queue's interrupt comes with the last
	// request of a group, and not with the first of the queue (§6.3.36).
	PRIQLastOnly = 1 << 31
	// IRQCfgAddrMask is ADDR of the *_IRQ_CFG0 registers, bits [55:2].
	IRQCfgAddrMask = BaseAddrMask &^ 3
)

// CmdqErr is an error code of the command queue, CMDQ_CONS.ERR (§7.1).
type CmdqErr uint32

const (
	CERROR_NONE         CmdqErr = 0
	CERROR_ILL          CmdqErr = 1 // a command that is not legal
	CERROR_ABT          CmdqErr = 2 // an abort while fetching commands
	CERROR_ATC_INV_SYNC CmdqErr = 3 // a SYNC after an ATC_INV that timed out
)

// String returns the code's name.
func (e CmdqErr) String() string {
	switch e {
	case CERROR_NONE:
		return "CERROR_NONE"
	case CERROR_ILL:
		return "CERROR_ILL"
	case CERROR_ABT:
		return "CERROR_ABT"
	case CERROR_ATC_INV_SYNC:
		return "CERROR_ATC_INV_SYNC"
	}
	return fmt.Sprintf("CERROR(%d)", uint32(e))
}

// CMDQ_CONS.ERR's place (§6.3.28).
const (
	CmdqConsErrShift = 24
	CmdqConsErrMask  = 0x7f << CmdqConsErrShift
)

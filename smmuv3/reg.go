package smmuv3

// Offsets of the Non-secure registers from the SMMU's base, in bytes (§6.2.1).
// The EVENTQ and PRIQ indices are on register page 1.
const (
	RegIDR0       = 0x00000
	RegIDR1       = 0x00004
	RegIDR2       = 0x00008
	RegIDR3       = 0x0000c
	RegIDR4       = 0x00010
	RegIDR5       = 0x00014
	RegIIDR       = 0x00018
	RegAIDR       = 0x0001c
	RegCR0        = 0x00020
	RegCR0ACK     = 0x00024
	RegCR1        = 0x00028
	RegCR2        = 0x0002c
	RegSTATUSR    = 0x00040
	RegGBPA       = 0x00044
	RegAGBPA      = 0x00048
	RegIRQCtrl    = 0x00050
	RegIRQCtrlAck = 0x00054
	RegGERROR     = 0x00060
	RegGERRORN    = 0x00064
	RegGErrorIRQ0 = 0x00068 // 64 bits: MSI address
	RegGErrorIRQ1 = 0x00070
	RegGErrorIRQ2 = 0x00074
	RegSTRTABBase = 0x00080 // 64 bits
	RegSTRTABCfg  = 0x00088
	RegCMDQBase   = 0x00090 // 64 bits
	RegCMDQProd   = 0x00098
	RegCMDQCons   = 0x0009c
	RegEVENTQBase = 0x000a0 // 64 bits
	RegEventQIRQ0 = 0x000b0 // 64 bits: MSI address
	RegEventQIRQ1 = 0x000b8
	RegEventQIRQ2 = 0x000bc
	RegPRIQBase   = 0x000c0 // 64 bits
	RegPRIQIRQ0   = 0x000d0 // 64 bits: MSI address
	RegPRIQIRQ1   = 0x000d8
	RegPRIQIRQ2   = 0x000dc
	RegIDR6       = 0x00190
	RegIDRegs     = 0x00fd0 // CoreSight identification, to 0xffc
	RegEVENTQProd = 0x100a8
	RegEVENTQCons = 0x100ac
	RegPRIQProd   = 0x100c8
	RegPRIQCons   = 0x100cc
)

// registerNames are the registers of §6.2.1 and §6.2.2 by their offset, with
// the page-0 aliases of those on page 1.
var registerNames = map[uint64]string{
	RegIDR0: "IDR0", RegIDR1: "IDR1", RegIDR2: "IDR2", RegIDR3: "IDR3", RegIDR4: "IDR4", RegIDR5: "IDR5",
	RegIIDR: "IIDR", RegAIDR: "AIDR", RegCR0: "CR0", RegCR0ACK: "CR0ACK", RegCR1: "CR1", RegCR2: "CR2",
	RegSTATUSR: "STATUSR", RegGBPA: "GBPA", RegAGBPA: "AGBPA",
	RegIRQCtrl: "IRQ_CTRL", RegIRQCtrlAck: "IRQ_CTRLACK", RegGERROR: "GERROR", RegGERRORN: "GERRORN",
	RegGErrorIRQ0: "GERROR_IRQ_CFG0", RegGErrorIRQ0 + 4: "GERROR_IRQ_CFG0[63:32]",
	RegGErrorIRQ1: "GERROR_IRQ_CFG1", RegGErrorIRQ2: "GERROR_IRQ_CFG2",
	RegSTRTABBase: "STRTAB_BASE", RegSTRTABBase + 4: "STRTAB_BASE[63:32]", RegSTRTABCfg: "STRTAB_BASE_CFG",
	RegCMDQBase: "CMDQ_BASE", RegCMDQBase + 4: "CMDQ_BASE[63:32]", RegCMDQProd: "CMDQ_PROD", RegCMDQCons: "CMDQ_CONS",
	RegEVENTQBase: "EVENTQ_BASE", RegEVENTQBase + 4: "EVENTQ_BASE[63:32]",
	RegEVENTQProd: "EVENTQ_PROD", RegEVENTQCons: "EVENTQ_CONS",
	RegEVENTQProd & 0xff: "EVENTQ_PROD", RegEVENTQCons & 0xff: "EVENTQ_CONS",
	RegPRIQProd & 0xff: "PRIQ_PROD", RegPRIQCons & 0xff: "PRIQ_CONS",
	RegEventQIRQ0: "EVENTQ_IRQ_CFG0", RegEventQIRQ0 + 4: "EVENTQ_IRQ_CFG0[63:32]",
	RegEventQIRQ1: "EVENTQ_IRQ_CFG1", RegEventQIRQ2: "EVENTQ_IRQ_CFG2",
	RegPRIQBase: "PRIQ_BASE", RegPRIQBase + 4: "PRIQ_BASE[63:32]",
	RegPRIQProd: "PRIQ_PROD", RegPRIQCons: "PRIQ_CONS", RegPRIQIRQ0: "PRIQ_IRQ_CFG0", RegPRIQIRQ0 + 4: "PRIQ_IRQ_CFG0[63:32]",
	RegPRIQIRQ1: "PRIQ_IRQ_CFG1", RegPRIQIRQ2: "PRIQ_IRQ_CFG2", RegIDR6: "IDR6",
}

// RegisterName is the name of the register at an offset, or empty if there is
// none that this package knows.
func RegisterName(off uint64) string { return registerNames[off] }

// RegisterSpace is the size of the register pages 0 and 1, in bytes, which an
// SMMU occupies at a 64 KiB aligned address (§6.1).
const RegisterSpace = 0x20000

// CR0 and CR0ACK (§6.3.9, §6.3.10).
const (
	CR0SMMUEN   = 1 << 0
	CR0PRIQEN   = 1 << 1
	CR0EVENTQEN = 1 << 2
	CR0CMDQEN   = 1 << 3
	CR0ATSCHK   = 1 << 4
)

// CR1 (§6.3.11): the attributes with which queues and tables are accessed.
const (
	CR1QueueMask = 0x03f // QUEUE_IC, QUEUE_OC, QUEUE_SH
	CR1TableMask = 0xfc0 // TABLE_IC, TABLE_OC, TABLE_SH
)

// CR2 (§6.3.12).
const (
	CR2E2H       = 1 << 0
	CR2RECINVSID = 1 << 1
	CR2PTM       = 1 << 2
	CR2RECCFGATS = 1 << 3
)

// IRQ_CTRL and IRQ_CTRLACK (§6.3.16, §6.3.18).
const (
	IRQCtrlGERROR = 1 << 0
	IRQCtrlPRIQ   = 1 << 1
	IRQCtrlEVENTQ = 1 << 2
)

// GERROR and GERRORN (§6.3.19, §6.3.20). An error is active while its bits in
// the two registers differ.
const (
	GErrorCMDQ         = 1 << 0
	GErrorEVENTQAbt    = 1 << 2
	GErrorPRIQAbt      = 1 << 3
	GErrorMSICMDQAbt   = 1 << 4
	GErrorMSIEVENTQAbt = 1 << 5
	GErrorMSIPRIQAbt   = 1 << 6
	GErrorMSIGERRORAbt = 1 << 7
	GErrorSFM          = 1 << 8

	GErrorMask = 0x1fd
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
	CErrorNone       CmdqErr = 0
	CErrorIll        CmdqErr = 1 // a command that is not legal
	CErrorAbt        CmdqErr = 2 // an abort while fetching commands
	CErrorATCInvSync CmdqErr = 3 // a SYNC after an ATC_INV that timed out
)

// CMDQ_CONS.ERR's place (§6.3.28).
const (
	CmdqConsErrShift = 24
	CmdqConsErrMask  = 0x7f << CmdqConsErrShift
)

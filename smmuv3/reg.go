package smmuv3

import (
	"fmt"
	mathbits "math/bits"
)

// Offsets of the Non-secure registers from the SMMU's base, in bytes (§6.2.1). Register page 1
// holds EVENTQ_PROD, EVENTQ_CONS, PRIQ_PROD and PRIQ_CONS.
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
	RegGERROR_IRQ_CFG0 = 0x00068 // 64 bits
	RegGERROR_IRQ_CFG1 = 0x00070
	RegGERROR_IRQ_CFG2 = 0x00074
	RegSTRTAB_BASE     = 0x00080 // 64 bits
	RegSTRTAB_BASE_CFG = 0x00088
	RegCMDQ_BASE       = 0x00090 // 64 bits
	RegCMDQ_PROD       = 0x00098
	RegCMDQ_CONS       = 0x0009c
	RegEVENTQ_BASE     = 0x000a0 // 64 bits
	RegEVENTQ_IRQ_CFG0 = 0x000b0 // 64 bits
	RegEVENTQ_IRQ_CFG1 = 0x000b8
	RegEVENTQ_IRQ_CFG2 = 0x000bc
	RegPRIQ_BASE       = 0x000c0 // 64 bits
	RegPRIQ_IRQ_CFG0   = 0x000d0 // 64 bits
	RegPRIQ_IRQ_CFG1   = 0x000d8
	RegPRIQ_IRQ_CFG2   = 0x000dc
	RegIDR6            = 0x00190
	RegID_REGS         = 0x00fd0 // CoreSight identification registers, up to 0xffc
	RegEVENTQ_PROD     = 0x100a8
	RegEVENTQ_CONS     = 0x100ac
	RegPRIQ_PROD       = 0x100c8
	RegPRIQ_CONS       = 0x100cc
)

// RegisterSpace is the size of register pages 0 and 1 in bytes. An SMMU's registers are aligned to
// 64 KiB (§6.1).
const RegisterSpace = 0x20000

// Fields of CR0 and CR0ACK (§6.3.9, §6.3.10).
const (
	CR0_SMMUEN      = 1 << 0
	CR0_PRIQEN      = 1 << 1
	CR0_EVENTQEN    = 1 << 2
	CR0_CMDQEN      = 1 << 3
	CR0_ATSCHK      = 1 << 4
	CR0_VMW         = 0x7 << 6
	CR0_DPT_WALK_EN = 1 << 10
)

// Fields of CR1, the attributes of accesses to queues and tables (§6.3.11).
const (
	CR1_QUEUE_IC = 0x3 << 0
	CR1_QUEUE_OC = 0x3 << 2
	CR1_QUEUE_SH = 0x3 << 4
	CR1_TABLE_IC = 0x3 << 6
	CR1_TABLE_OC = 0x3 << 8
	CR1_TABLE_SH = 0x3 << 10

	CR1_QUEUE_Mask = CR1_QUEUE_IC | CR1_QUEUE_OC | CR1_QUEUE_SH
	CR1_TABLE_Mask = CR1_TABLE_IC | CR1_TABLE_OC | CR1_TABLE_SH
)

// Fields of CR2 (§6.3.12).
const (
	CR2_E2H         = 1 << 0
	CR2_RECINVSID   = 1 << 1
	CR2_PTM         = 1 << 2
	CR2_REC_CFG_ATS = 1 << 3
)

// STATUSR_DORMANT is STATUSR.DORMANT (§6.3.13).
const STATUSR_DORMANT = 1 << 0

// GBPA is the register that controls transactions while the SMMU is disabled (§6.3.14).
type GBPA uint32

// Fields of GBPA.
const (
	GBPA_MemAttr  GBPA = 0xf << 0
	GBPA_MTCFG    GBPA = 1 << 4
	GBPA_ALLOCCFG GBPA = 0xf << 8
	GBPA_SHCFG    GBPA = 0x3 << 12
	GBPA_PRIVCFG  GBPA = 0x3 << 16
	GBPA_INSTCFG  GBPA = 0x3 << 18
	// GBPA_ABORT makes transactions abort. Without it they bypass.
	GBPA_ABORT GBPA = 1 << 20
	// GBPA_Update marks a new value. Software sets it, and the SMMU clears it when the value is in
	// effect.
	GBPA_Update GBPA = 1 << 31

	GBPA_Mask = GBPA_MemAttr | GBPA_MTCFG | GBPA_ALLOCCFG | GBPA_SHCFG | GBPA_PRIVCFG | GBPA_INSTCFG |
		GBPA_ABORT | GBPA_Update
)

// Abort reports whether transactions abort.
func (g GBPA) Abort() bool { return g&GBPA_ABORT != 0 }

// Fields of IRQ_CTRL and IRQ_CTRLACK (§6.3.16, §6.3.18).
const (
	IRQ_CTRL_GERROR_IRQEN = 1 << 0
	IRQ_CTRL_PRIQ_IRQEN   = 1 << 1
	IRQ_CTRL_EVENTQ_IRQEN = 1 << 2
)

// Fields of GERROR and GERRORN (§6.3.19, §6.3.20). An error is active while its bits in the two
// registers differ.
const (
	GERROR_CMDQ_ERR           = 1 << 0
	GERROR_EVENTQ_ABT_ERR     = 1 << 2
	GERROR_PRIQ_ABT_ERR       = 1 << 3
	GERROR_MSI_CMDQ_ABT_ERR   = 1 << 4
	GERROR_MSI_EVENTQ_ABT_ERR = 1 << 5
	GERROR_MSI_PRIQ_ABT_ERR   = 1 << 6
	GERROR_MSI_GERROR_ABT_ERR = 1 << 7
	GERROR_SFM_ERR            = 1 << 8
	GERROR_CMDQP_ERR          = 1 << 9
	GERROR_DPT_ERR            = 1 << 10

	// GERROR_Mask has the errors of an SMMU without ECMDQ and DPT.
	GERROR_Mask = GERROR_CMDQ_ERR | GERROR_EVENTQ_ABT_ERR | GERROR_PRIQ_ABT_ERR | GERROR_MSI_CMDQ_ABT_ERR |
		GERROR_MSI_EVENTQ_ABT_ERR | GERROR_MSI_PRIQ_ABT_ERR | GERROR_MSI_GERROR_ABT_ERR | GERROR_SFM_ERR
)

// Fields of *_IRQ_CFG0, *_IRQ_CFG1 and *_IRQ_CFG2 (§6.3.21 to §6.3.23).
const (
	IRQ_CFG0_ADDR    = BaseAddrMask &^ 0x3
	IRQ_CFG1_DATA    = 0xffff_ffff
	IRQ_CFG2_MemAttr = 0xf << 0
	IRQ_CFG2_SH      = 0x3 << 4
	// PRIQ_IRQ_CFG2_LO makes the PRI queue's interrupt come with the last request of a group, not
	// when the queue becomes non-empty (§6.3.36).
	PRIQ_IRQ_CFG2_LO = 1 << 31
)

// BaseAddrMask has the bits of an address that a structure of the architecture can hold (§3.4.3).
// Bits above the output address size of the SMMU are RES0.
const BaseAddrMask = 1<<56 - 1

// Fields of STRTAB_BASE and STRTAB_BASE_CFG (§6.3.24, §6.3.25), and of the queues' *_BASE
// (§6.3.26).
const (
	// BASE_RA is the read- or write-allocate hint of the base registers: RA or WA.
	BASE_RA = 1 << 62

	STRTAB_BASE_ADDR = BaseAddrMask &^ 0x3f
	STRTAB_BASE_Mask = BASE_RA | STRTAB_BASE_ADDR

	STRTAB_BASE_CFG_LOG2SIZE = 0x3f << 0
	STRTAB_BASE_CFG_SPLIT    = 0x1f << 6
	STRTAB_BASE_CFG_FMT      = 0x3 << 16
	STRTAB_BASE_CFG_Mask     = STRTAB_BASE_CFG_LOG2SIZE | STRTAB_BASE_CFG_SPLIT | STRTAB_BASE_CFG_FMT

	QUEUE_BASE_LOG2SIZE = 0x1f << 0
	QUEUE_BASE_ADDR     = BaseAddrMask &^ 0x1f
	QUEUE_BASE_Mask     = BASE_RA | QUEUE_BASE_ADDR | QUEUE_BASE_LOG2SIZE
)

// Fields of *_PROD and *_CONS (§6.3.27, §6.3.28, §6.3.95 to §6.3.98).
const (
	// QUEUE_INDEX has the bits that an index and its wrap bit take in the largest queue: WR or RD.
	QUEUE_INDEX = 0xf_ffff
	// OverflowFlag is OVFLG of EVENTQ_PROD and PRIQ_PROD, and OVACKFLG of EVENTQ_CONS and
	// PRIQ_CONS.
	OverflowFlag = 1 << 31

	CMDQ_CONS_ERR_Shift = 24
	CMDQ_CONS_ERR       = 0x7f << CMDQ_CONS_ERR_Shift
)

// CmdqErr is an error of the command queue: CMDQ_CONS.ERR (§7.1).
type CmdqErr uint32

// Values of CMDQ_CONS.ERR.
const (
	CERROR_NONE         CmdqErr = 0
	CERROR_ILL          CmdqErr = 1 // an illegal command
	CERROR_ABT          CmdqErr = 2 // an abort of a command fetch
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

// register is a register's name and fields.
type register struct {
	name string
	wide bool // 64 bits
	rows []row
}

// in returns the row of a register's field with the bits of mask. mean, if given, describes its
// values.
func in(name string, mask uint64, mean ...func(uint64) string) row {
	lo, width := mathbits.TrailingZeros64(mask), mathbits.OnesCount64(mask)
	r := row{name: name, place: place(lo) + place(width)*wide}
	if len(mean) > 0 {
		r.mean = mean[0]
	}
	return r
}

// addressIn returns the row of a field that holds the bits of an address.
func addressIn(name string, mask uint64) row {
	r := in(name, mask)
	r.place += address
	return r
}

// The rows of registers of the same form.
var (
	cr0Rows = []row{
		in("SMMUEN", CR0_SMMUEN, oneOf("transactions follow GBPA", "transactions are translated")),
		in("PRIQEN", CR0_PRIQEN, disabledOrEnabled), in("EVENTQEN", CR0_EVENTQEN, disabledOrEnabled),
		in("CMDQEN", CR0_CMDQEN, disabledOrEnabled),
		in("ATSCHK", CR0_ATSCHK, oneOf("ATS Translated transactions are not checked", "STE.EATS is checked")),
		in("VMW", CR0_VMW, oneOf("TLBI commands match the whole VMID", "VMID bit 0 is ignored",
			"VMID bits [1:0] are ignored", "VMID bits [2:0] are ignored", "VMID bits [3:0] are ignored")),
		in("DPT_WALK_EN", CR0_DPT_WALK_EN, disabledOrEnabled),
	}
	irqCtrlRows = []row{
		in("GERROR_IRQEN", IRQ_CTRL_GERROR_IRQEN, disabledOrEnabled),
		in("PRIQ_IRQEN", IRQ_CTRL_PRIQ_IRQEN, disabledOrEnabled),
		in("EVENTQ_IRQEN", IRQ_CTRL_EVENTQ_IRQEN, disabledOrEnabled),
	}
	// An error is active while GERROR and GERRORN differ. Therefore the meanings describe the bit, not
	// its value.
	gerrorRows = []row{
		in("CMDQ_ERR", GERROR_CMDQ_ERR, about("the command queue stopped: see CMDQ_CONS.ERR")),
		in("EVENTQ_ABT_ERR", GERROR_EVENTQ_ABT_ERR, about("a write to the event queue aborted")),
		in("PRIQ_ABT_ERR", GERROR_PRIQ_ABT_ERR, about("a write to the PRI queue aborted")),
		in("MSI_CMDQ_ABT_ERR", GERROR_MSI_CMDQ_ABT_ERR, about("an MSI of CMD_SYNC aborted")),
		in("MSI_EVENTQ_ABT_ERR", GERROR_MSI_EVENTQ_ABT_ERR, about("an MSI of the event queue aborted")),
		in("MSI_PRIQ_ABT_ERR", GERROR_MSI_PRIQ_ABT_ERR, about("an MSI of the PRI queue aborted")),
		in("MSI_GERROR_ABT_ERR", GERROR_MSI_GERROR_ABT_ERR, about("an MSI of GERROR aborted")),
		in("SFM_ERR", GERROR_SFM_ERR, about("the SMMU is in Service Failure Mode")),
		in("CMDQP_ERR", GERROR_CMDQP_ERR, about("an error of an enhanced command queue")),
		in("DPT_ERR", GERROR_DPT_ERR, about("a fault of a Device Permission Table lookup")),
	}
	irqCfg0Rows   = []row{addressIn("ADDR", IRQ_CFG0_ADDR)}
	irqCfg1Rows   = []row{in("DATA", IRQ_CFG1_DATA)}
	irqCfg2Rows   = []row{in("MemAttr", IRQ_CFG2_MemAttr), in("SH", IRQ_CFG2_SH, shareability)}
	queueBaseRows = func(hint string) []row {
		return []row{in(hint, BASE_RA), addressIn("ADDR", QUEUE_BASE_ADDR),
			in("LOG2SIZE", QUEUE_BASE_LOG2SIZE, entries)}
	}
	wrRow         = in("WR", QUEUE_INDEX)
	rdRow         = in("RD", QUEUE_INDEX)
	queueProdRows = []row{in("OVFLG", OverflowFlag), wrRow}
	queueConsRows = []row{in("OVACKFLG", OverflowFlag), rdRow}
)

func idRegisterRows(reg uint8) (rows []row) {
	for i := range idFields {
		if idFields[i].reg == reg {
			rows = append(rows, idFields[i].row)
		}
	}
	return rows
}

// registers are the registers of §6.2.1 and §6.2.2 by their offset.
var registers = map[uint64]register{
	RegIDR0: {"IDR0", false, idRegisterRows(0)},
	RegIDR1: {"IDR1", false, idRegisterRows(1)},
	RegIDR2: {"IDR2", false, idRegisterRows(2)},
	RegIDR3: {"IDR3", false, idRegisterRows(3)},
	RegIDR4: {"IDR4", false, nil},
	RegIDR5: {"IDR5", false, idRegisterRows(5)},
	RegIIDR: {"IIDR", false, idRegisterRows(regIIDR)},
	RegAIDR: {"AIDR", false, idRegisterRows(regAIDR)},

	RegCR0:    {"CR0", false, cr0Rows},
	RegCR0ACK: {"CR0ACK", false, cr0Rows},
	RegCR1: {"CR1", false, []row{
		in("QUEUE_IC", CR1_QUEUE_IC, cr1Cacheability), in("QUEUE_OC", CR1_QUEUE_OC, cr1Cacheability),
		in("QUEUE_SH", CR1_QUEUE_SH, shareability), in("TABLE_IC", CR1_TABLE_IC, cr1Cacheability),
		in("TABLE_OC", CR1_TABLE_OC, cr1Cacheability), in("TABLE_SH", CR1_TABLE_SH, shareability),
	}},
	RegCR2: {"CR2", false, []row{
		in("E2H", CR2_E2H, oneOf("EL2 streams without ASIDs", "EL2 streams with ASIDs (EL2-E2H)")),
		in("RECINVSID", CR2_RECINVSID, oneOf("C_BAD_STREAMID is not recorded", "C_BAD_STREAMID may be recorded")),
		in("PTM", CR2_PTM, oneOf("broadcast TLB maintenance takes effect, see IDR0.BTM",
			"broadcast TLB maintenance may be ignored")),
		in("REC_CFG_ATS", CR2_REC_CFG_ATS, oneOf("base set of events for ATS and PRI",
			"extended set of events for ATS and PRI")),
	}},
	RegSTATUSR: {"STATUSR", false, []row{in("DORMANT", STATUSR_DORMANT)}},
	RegGBPA: {"GBPA", false, []row{
		in("MemAttr", uint64(GBPA_MemAttr)), in("MTCFG", uint64(GBPA_MTCFG), memoryTypeOverride),
		in("ALLOCCFG", uint64(GBPA_ALLOCCFG)), in("SHCFG", uint64(GBPA_SHCFG), shareabilityOverride),
		in("PRIVCFG", uint64(GBPA_PRIVCFG), privilegeOverride),
		in("INSTCFG", uint64(GBPA_INSTCFG), instructionOverride),
		in("ABORT", uint64(GBPA_ABORT), oneOf("transactions bypass", "transactions abort")),
		in("Update", uint64(GBPA_Update), oneOf("in effect", "an update is in progress")),
	}},
	RegAGBPA:       {"AGBPA", false, nil},
	RegIRQ_CTRL:    {"IRQ_CTRL", false, irqCtrlRows},
	RegIRQ_CTRLACK: {"IRQ_CTRLACK", false, irqCtrlRows},
	RegGERROR:      {"GERROR", false, gerrorRows},
	RegGERRORN:     {"GERRORN", false, gerrorRows},

	RegGERROR_IRQ_CFG0: {"GERROR_IRQ_CFG0", true, irqCfg0Rows},
	RegGERROR_IRQ_CFG1: {"GERROR_IRQ_CFG1", false, irqCfg1Rows},
	RegGERROR_IRQ_CFG2: {"GERROR_IRQ_CFG2", false, irqCfg2Rows},
	RegSTRTAB_BASE:     {"STRTAB_BASE", true, []row{in("RA", BASE_RA), addressIn("ADDR", STRTAB_BASE_ADDR)}},
	RegSTRTAB_BASE_CFG: {"STRTAB_BASE_CFG", false, []row{
		in("LOG2SIZE", STRTAB_BASE_CFG_LOG2SIZE, func(v uint64) string {
			return fmt.Sprintf("StreamIDs have %d bits", v)
		}),
		in("SPLIT", STRTAB_BASE_CFG_SPLIT, func(v uint64) string {
			switch v {
			case 6, 8, 10:
				return fmt.Sprintf("a level-2 table has up to %d STEs", 1<<v)
			}
			return "reserved, behaves as 6; ignored by a linear table"
		}),
		in("FMT", STRTAB_BASE_CFG_FMT, oneOf("linear", "two-level", "reserved", "reserved")),
	}},
	RegCMDQ_BASE: {"CMDQ_BASE", true, queueBaseRows("RA")},
	RegCMDQ_PROD: {"CMDQ_PROD", false, []row{wrRow}},
	RegCMDQ_CONS: {"CMDQ_CONS", false, []row{
		rdRow, in("ERR", CMDQ_CONS_ERR, func(v uint64) string { return CmdqErr(v).String() }),
	}},
	RegEVENTQ_BASE:     {"EVENTQ_BASE", true, queueBaseRows("WA")},
	RegEVENTQ_IRQ_CFG0: {"EVENTQ_IRQ_CFG0", true, irqCfg0Rows},
	RegEVENTQ_IRQ_CFG1: {"EVENTQ_IRQ_CFG1", false, irqCfg1Rows},
	RegEVENTQ_IRQ_CFG2: {"EVENTQ_IRQ_CFG2", false, irqCfg2Rows},
	RegPRIQ_BASE:       {"PRIQ_BASE", true, queueBaseRows("WA")},
	RegPRIQ_IRQ_CFG0:   {"PRIQ_IRQ_CFG0", true, irqCfg0Rows},
	RegPRIQ_IRQ_CFG1:   {"PRIQ_IRQ_CFG1", false, irqCfg1Rows},
	RegPRIQ_IRQ_CFG2: {"PRIQ_IRQ_CFG2", false, []row{
		irqCfg2Rows[0], irqCfg2Rows[1],
		in("LO", PRIQ_IRQ_CFG2_LO, oneOf("interrupt when non-empty", "interrupt with the last request of a group")),
	}},
	RegIDR6:        {"IDR6", false, nil},
	RegEVENTQ_PROD: {"EVENTQ_PROD", false, queueProdRows},
	RegEVENTQ_CONS: {"EVENTQ_CONS", false, queueConsRows},
	RegPRIQ_PROD:   {"PRIQ_PROD", false, queueProdRows},
	RegPRIQ_CONS:   {"PRIQ_CONS", false, queueConsRows},
}

// registerAt returns the register at an offset. upper is true if off is the upper half of a 64-bit
// register. The indices of EVENTQ and PRIQ have aliases on page 0 (§6.2.2).
func registerAt(off uint64) (r register, upper, ok bool) {
	switch off + 0x10000 {
	case RegEVENTQ_PROD, RegEVENTQ_CONS, RegPRIQ_PROD, RegPRIQ_CONS:
		off += 0x10000
	}
	if r, ok = registers[off]; ok {
		return r, false, true
	}
	r, ok = registers[off-4]
	return r, true, ok && r.wide
}

// RegisterName returns the name of the register at an offset, or "" if this package knows none. The
// upper half of a register with 64 bits is "CMDQ_BASE[63:32]".
func RegisterName(off uint64) string {
	switch r, upper, ok := registerAt(off); {
	case !ok:
		return ""
	case upper:
		return r.name + "[63:32]"
	default:
		return r.name
	}
}

// RegisterFields explains a value of the register at an offset field by field. A register with 64
// bits is explained as a whole. The result is nil if this package does not know the register.
func RegisterFields(off, v uint64) []Field {
	r, upper, ok := registerAt(off)
	if !ok || upper {
		return nil
	}
	return explain([]uint64{v}, r.rows)
}

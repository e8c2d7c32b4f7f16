// Package smmuv3 describes the Arm System MMU architecture, version 3: its registers and
// structures, the commands and event records, and which of them are illegal.
//
// The source is Arm's specification, IHI 0070, issue G.b. Comments cite it as "§6.3.1". This
// package alone has the offsets and bit positions of the module; other packages use its types.
//
// # Structures
//
// Each structure is a type over integers, with a getter and, where useful, a setter for each field:
//
//	STE          Stream Table Entry            §5.2
//	L1STD        its level-1 descriptor        §5.1
//	CD           Context Descriptor            §5.4
//	L1CD         its level-1 descriptor        §5.3
//	Desc         VMSAv8-64 table descriptor    DDI 0487, D8.3.1
//	Command      command queue entry           Chapter 4
//	Event        event queue record            §7.3
//	PageRequest  PRI queue record              Chapter 8
//	IDRegs       identification registers      §6.3.1 to §6.3.8
//
// The constructors New… make commands, events and page requests. Stage2 has the stage-2 fields of
// an STE. StreamTable, CDTable and Queue compute where the entries of tables and queues are in
// memory.
//
// Values are in host byte order. Structures in memory are little-endian (§5): Load… and Put
// convert.
//
// # Names
//
// A getter or setter has the name of the specification's field: S1ContextPtr, SetS1ContextPtr. A
// field that exists for each half of the address space, such as T0SZ and T1SZ, has one method,
// TxSZ, which takes the number of the half. The name of an opcode is Op and the command's name
// without punctuation: OpCfgiCDAll is CMD_CFGI_CD_ALL, and NewCfgiCDAll makes the command. Event
// types follow the same rule: FTranslation is F_TRANSLATION. The name of a register's offset is Reg
// and the register's name: RegCMDQ_BASE. The name of a register's field is both names: CR0_SMMUEN.
//
// # Reserved bits
//
// A setter changes its field only: reserved bits keep their values. A getter returns the value in
// the structure. Effective clears the fields that an SMMU ignores, and Defined clears reserved
// bits. Reserved bits that are not 0 make no structure illegal: the specification leaves this
// choice to the implementation (§4.1.5, Chapter 5), and drivers write fields of newer versions.
//
// # Legality
//
// The Illegal methods of STE, CD, Command and IDRegs return the Rule of the specification that
// makes the value illegal, or nil. The result depends on the ID registers of an SMMU. AllFeatures
// returns the ID registers of an SMMU with every feature. Where the specification leaves a case to
// the implementation, the rule has Choice set. CommandSet checks the commands of one SMMU, and is
// faster.
//
// # Explanations
//
// The Fields methods, IDField.Meaning and RegisterFields explain a value field by field, with the
// names and bits of the specification. They omit some fields, whose positions only a figure of the
// specification shows and no second source confirms: the permissions of F_BAD_ATS_TREQ and
// E_PAGE_REQUEST, the IPA of F_TLB_CONFLICT, the flags of F_PERMISSION that come with permission
// indirection, and the parameters of DPTI_PA.
//
// # Concurrency
//
// There is no state and no I/O. A CommandSet is immutable; every other value belongs to its caller.
package smmuv3

package smmuv3_test

import (
	"fmt"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// A stream table entry, as a driver writes it into memory, field by field.
func ExampleSTE_Fields() {
	memory := [smmuv3.STESize]byte{0x0b, 0x50, 0x34, 0x12, 8: 0xf6, 13: 0x10}
	ste := smmuv3.LoadSTE(&memory)
	for _, f := range ste.Fields() {
		if f.Value != 0 {
			fmt.Println(strings.TrimSpace(fmt.Sprintf("%s %s %#x %s", f.Name, f.Bits(), f.Value, f.Meaning)))
		}
	}
	// Output:
	// V [0] 0x1 valid
	// Config [3:1] 0x5 stage 1 translates
	// S1ContextPtr [55:6] 0x12345000
	// S1DSS [65:64] 0x2 without a SubstreamID: substream 0
	// S1CIR [67:66] 0x1 write-back, read-allocate
	// S1COR [69:68] 0x3 write-back, no read-allocate
	// S1CSH [71:70] 0x3 inner shareable
	// SHCFG [109:108] 0x1 incoming shareability
}

// A range invalidation of 32 pages of 4 KiB, and a SYNC that signals completion by MSI.
func ExampleCommand() {
	pages := smmuv3.NewTLBINHVA(0, 5, 0x7f00_0000_0000, true).WithRange(smmuv3.Granule4K, 31, 0, 3)
	done := smmuv3.NewSyncIRQ(smmuv3.MSIWrite{Addr: 0x8090_0040, Data: 1})
	fmt.Println(pages)
	fmt.Println(done)

	var memory [smmuv3.CommandSize]byte
	pages.Put(&memory)
	fmt.Printf("%x\n", memory)
	// Output:
	// TLBI_NH_VA ASID=0x5 Addr=0x7f0000000000 Leaf=0x1 NUM=0x1f TTL=0x3 TG=0x1
	// SYNC CS=0x1 MSIData=0x1 MSIAddress=0x80900040
	// 12f001000000050001070000007f0000
}

// A context descriptor that asks for stalls is illegal on an SMMU that always terminates faults.
func ExampleCD_Illegal() {
	var ids smmuv3.IDRegs
	ids.Set(smmuv3.S1P, 1)
	ids.Set(smmuv3.TTF, smmuv3.TTFAArch64)
	ids.Set(smmuv3.GRAN4K, 1)
	ids.Set(smmuv3.OAS, 5) // 48 bits
	ids.Set(smmuv3.StallModel, smmuv3.StallTerminate)

	var cd smmuv3.CD
	cd.SetV(true)
	cd.SetAA64(true)
	cd.SetTxSZ(0, 16)
	cd.SetTGx(0, smmuv3.Granule4K)
	cd.SetEPDx(1, true)
	cd.SetIPS(5)
	cd.SetTTBx(0, 0x4321_0000)
	fmt.Println(cd.Illegal(&ids, false))

	cd.SetS(true)
	fmt.Println(cd.Illegal(&ids, false))
	// Output:
	// legal
	// S asks for stalls, which the SMMU does not have (§5.4.2)
}

// A command set checks the commands of one SMMU.
func ExampleCommandSet() {
	var ids smmuv3.IDRegs
	ids.Set(smmuv3.S1P, 1)
	set := smmuv3.NewCommandSet(ids)
	for _, c := range []smmuv3.Command{smmuv3.NewTLBINHAll(0), smmuv3.NewATCInv(0x20, 0, smmuv3.ATCSizeAll), {0x46 | 3<<12}} {
		fmt.Printf("%v: %v\n", c.Opcode(), set.Illegal(&c))
	}
	// Output:
	// TLBI_NH_ALL: legal
	// ATC_INV: the SMMU does not have IDR0.ATS (§4.1.3)
	// SYNC: CS is reserved (§4.7.3)
}

// A fault of a stalled transaction, and the command that answers it.
func ExampleEvent() {
	e := smmuv3.NewFTranslation(0x20, smmuv3.Access{Addr: 0x1000, Read: true}, smmuv3.StageFault{Class: smmuv3.ClassIN}).WithSubstream(3)
	e.SetStall(7)
	fmt.Println(e)
	fmt.Println(smmuv3.NewResume(e.StreamID(), e.STAG(), smmuv3.ResumeRetry))
	// Output:
	// F_TRANSLATION stream 0x20 substream 0x3 read at 0x1000
	// RESUME StreamID=0x20 Ac=0x1 STAG=0x7
}

// An SMMUv3.2 without range invalidation breaks a rule of the architecture.
func ExampleIDRegs_Illegal() {
	ids := smmuv3.AllFeatures()
	fmt.Println(ids.Illegal())
	ids.Set(smmuv3.RIL, 0)
	fmt.Println(ids.Illegal())
	// Output:
	// legal
	// SMMUv3.2 and later have RIL (§6.3.4)
}

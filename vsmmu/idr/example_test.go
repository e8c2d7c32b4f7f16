package idr_test

import (
	"errors"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// qemu has the registers that Linux reports for QEMU's SMMUv3 in a nested configuration.
var qemu = bridge.Capabilities{IDs: smmuv3.IDRegs{
	IDR:  [6]uint32{0x0d44101b, 0x02730010, 0, 0x00001414, 0, 0x00000074},
	AIDR: 1,
}}

// Derive combines the host's features with the policy, and gives a reason for each field.
func ExampleDerive() {
	r, err := idr.Derive(idr.Policy{smmuv3.CMDQS: 10, smmuv3.MSI: 1}, qemu)
	if err != nil {
		panic(err)
	}
	for _, f := range r.Fields {
		if f.Guest != f.Host {
			fmt.Printf("%s.%v: host %d, guest %d: %s\n", f.Field.Register(), f.Field, f.Host, f.Guest, f.Reason)
		}
	}
	// Output:
	// IDR0.S2P: host 1, guest 0: a guest's stage 2 needs FWB, which not all hosts have
	// IDR0.MSI: host 0, guest 1: the policy asks for it; the device signals its interrupts by wire, and with MSI also by message
	// IDR0.VMID16: host 1, guest 0: has no meaning without S2P (§6.3.1)
	// IDR1.EVENTQS: host 19, guest 8: the device's own queue: log2 of its entries
	// IDR1.CMDQS: host 19, guest 10: the policy asks for it; the device's own queue: log2 of its entries
	// IDR3.XNX: host 1, guest 0: has no meaning without S2P (§6.3.4)
}

// A policy must not exceed the hosts, and must not contradict the architecture.
func ExamplePolicy() {
	for _, p := range []idr.Policy{
		{smmuv3.SSIDSIZE: 20},
		{smmuv3.RIL: 1, smmuv3.ArchMinor: 0},
		{smmuv3.CMDQS: 20},
	} {
		_, err := idr.Derive(p, qemu)
		fmt.Println(err, errors.Is(err, idr.ErrPolicy))
	}
	// Output:
	// idr: policy asks for SSIDSIZE 20, the host has 0: the host accepts SubstreamIDs true
	// idr: policy asks for RIL 1, the host has 1: a feature of SMMUv3.2, which needs SMMUv3.1 or later (§2.9) true
	// idr: policy asks for CMDQS 20: not a valid value (the greatest is 19) true
}

// Check tests any register set, not only those of Derive.
func ExampleCheck() {
	regs := smmuv3.IDRegs{IDR: [6]uint32{0: 0x0908001a, 1: 0x00000290, 5: 0x00000074}}
	fmt.Println(idr.Check(regs))
	regs.Set(smmuv3.ArchMinor, 1)
	fmt.Println(idr.Check(regs))
	regs.IDR[5] |= 1 << 3
	fmt.Println(idr.Check(regs))
	// Output:
	// <nil>
	// idr: ArchMinor is 1: SMMUv3.1 and later have HAD with S1P (§6.3.4)
	// idr: IDR5 has reserved bits 0x8 set
}

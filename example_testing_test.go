package vsmmuv3_test

import (
	"errors"
	"fmt"
	"log"

	vsmmuv3 "github.com/go-vsmmu/vsmmuv3"
	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// A VMM tests its embedding from end to end, without a guest and without hardware. vsmmutest is the
// guest's driver. bridge/record is a host that fails when the test asks for a failure. A VMM with
// its own host also tests the host with bridge/bridgetest.
func Example_testing() {
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	const ramAt, page, disk, nic = 0x4000_0000, 0x4080_0000, 0x10, 0x20
	ram := new(guestmem.Slots)
	check(ram.Add(guestmem.Slot{GPA: ramAt, Mem: make([]byte, 16<<20)}))
	cfg := vsmmuv3.Config{
		Memory:     ram,
		Interrupts: vsmmu.SPIs(74, func(uint32, bool) error { return nil }),
		Device:     vsmmu.Config{CheckReentry: true}, // a callback that calls the device panics
	}
	smmu, err := vsmmuv3.New(cfg)
	check(err)
	ep, err := smmu.Endpoint(disk)
	check(err)
	// In a VMM's test, the register file sends accesses through the VMM's own MMIO path.
	guest := vsmmutest.NewGuest(ram, guestmem.Range{GPA: ramAt, Len: 8 << 20}, smmu)
	check(guest.Enable())

	// A translated DMA.
	check(guest.MapStage1(disk, 0xdead_0000, page, 0x1000))
	check(ep.WriteAt([]byte("hello"), 0xdead_0000))
	p := make([]byte, 5)
	check(ram.ReadAt(p, page))
	fmt.Printf("in memory: %s\n", p)

	// A fault that the guest reads.
	fmt.Println("the device:", errors.Is(ep.ReadAt(p, 0xbeef_0000), soft.ErrFault))
	ev, err := guest.WaitEvent()
	check(err)
	fmt.Println("the guest:", ev)

	// A host fails. Its stream aborts, and the guest gets an event.
	host := record.New(bridge.Capabilities{IDs: soft.DefaultIDs()})
	check(smmu.Attach(nic, host, "nic"))
	host.FailWith(func(c record.Call) error {
		if c.Op == record.Bind && c.Stage.Disposition == bridge.Bypass {
			return bridge.ErrRejected
		}
		return nil
	})
	check(guest.Bypass(nic))
	stage, _ := smmu.Stage(nic)
	ev, err = guest.WaitEvent()
	check(err)
	fmt.Printf("%v, and the event is %v\n", stage, ev)
	fmt.Println("refused:", smmu.Stats().Device.Refused)
	check(smmu.Detach(nic))

	// Save and restore the SMMU. The guest sees no difference.
	cfg.Saved, err = smmu.Save()
	check(err)
	check(smmu.Close())
	smmu, err = vsmmuv3.New(cfg)
	check(err)
	defer smmu.Close()
	ep, err = smmu.Endpoint(disk)
	check(err)
	guest.SMMU = smmu
	check(ep.WriteAt([]byte("again"), 0xdead_0000))
	check(guest.Unmap(disk, 0xdead_0000, 0x1000))
	fmt.Println("after the restore:", smmu.Stats().Device.Commands[smmuv3.OpSync] > 0, ep.ReadAt(p, 0xdead_0000) != nil)
	// Output:
	// in memory: hello
	// the device: true
	// the guest: F_TRANSLATION stream 0x10 read at 0xbeef0000
	// abort with C_BAD_STE, and the event is C_BAD_STE stream 0x20
	// refused: 1
	// after the restore: true true
}

package vsmmu_test

import (
	"fmt"
	"log"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// A device moves with its machine. The source saves it after the vCPUs and the endpoints have
// stopped. The destination restores it.
func ExampleDevice_Restore() {
	ram := new(guestmem.Slots) // the memory moves, too
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)}); err != nil {
		log.Fatal(err)
	}
	host, err := soft.New(soft.Config{Memory: ram})
	if err != nil {
		log.Fatal(err)
	}
	caps, _ := host.Capabilities()
	ids, err := idr.Derive(nil, caps)
	if err != nil {
		log.Fatal(err)
	}
	there, err := vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: ram, Interrupts: wires{}})
	if err != nil {
		log.Fatal(err)
	}
	disk := soft.NewEndpoint()
	if err := there.Attach(0x10, host, disk); err != nil {
		log.Fatal(err)
	}
	there.Store(smmuv3.RegSTRTAB_BASE, 8, 0x4001_0000)

	state, err := there.Save()
	if err != nil {
		log.Fatal(err)
	}
	_ = there.Close()
	_ = host.Close()

	shown, err := vsmmu.SavedIDs(state) // the guest keeps its ID registers
	if err != nil {
		log.Fatal(err)
	}
	if host, err = soft.New(soft.Config{Memory: ram}); err != nil {
		log.Fatal(err)
	}
	here, err := vsmmu.New(vsmmu.Config{IDs: shown, Memory: ram, Interrupts: wires{}})
	if err != nil {
		log.Fatal(err)
	}
	defer here.Close()
	if err := here.Attach(0x10, host, disk); err != nil {
		log.Fatal(err) // for example, the host lacks a feature, which the error names
	}
	if err := here.Restore(state); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("STRTAB_BASE: %#x\n", here.Load(smmuv3.RegSTRTAB_BASE, 8))
	// Output:
	// STRTAB_BASE: 0x40010000
}

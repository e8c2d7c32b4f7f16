package vsmmu_test

import (
	"fmt"
	"log"
	"runtime"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// wires signals interrupts to the guest's interrupt controller.
type wires struct{}

func (wires) Pulse(vsmmu.Line) error               { return nil } // an edge on one of the four SPIs
func (wires) SignalMSI(guestmem.GPA, uint32) error { return nil } // a write to the ITS

// A VMM with 1 MiB of guest memory puts a disk that it emulates behind an SMMU.
func Example() {
	ram := new(guestmem.Slots)
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)}); err != nil {
		log.Fatal(err)
	}
	host, err := soft.New(soft.Config{Memory: ram})
	if err != nil {
		log.Fatal(err)
	}
	defer host.Close()
	caps, _ := host.Capabilities()
	ids, err := idr.Derive(idr.Policy{smmuv3.SSIDSIZE: 10}, caps)
	if err != nil {
		log.Fatal(err)
	}
	smmu, err := vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: ram, Interrupts: wires{}})
	if err != nil {
		log.Fatal(err)
	}
	defer smmu.Close() // before its host

	disk := soft.NewEndpoint()
	if err := smmu.Attach(0x10, host, disk); err != nil {
		log.Fatal(err)
	}

	// The guest's accesses to the SMMU's 128 KiB of registers go here ...
	idr0 := smmu.Load(smmuv3.RegIDR0, 4)
	smmu.Store(smmuv3.RegGBPA, 4, uint64(smmuv3.GBPA_Update|smmuv3.GBPA_ABORT))
	for smmu.Load(smmuv3.RegGBPA, 4)&uint64(smmuv3.GBPA_Update) != 0 {
		runtime.Gosched() // until it has taken effect
	}
	// ... and the disk's model does its DMA through its endpoint.
	err = disk.ReadAt(make([]byte, 512), 0x4000_0000)

	stage, _ := smmu.Stage(0x10)
	fmt.Printf("stage 1: %t\nstream 0x10: %v\nDMA refused: %t\n", idr0&2 != 0, stage, err != nil)
	// Output:
	// stage 1: true
	// stream 0x10: abort (SMMU disabled)
	// DMA refused: true
}

// A guest that is a hypervisor itself gets a stage 2 if both the host and the policy have one.
func Example_stage2() {
	ram := new(guestmem.Slots)
	host, err := soft.New(soft.Config{Memory: ram, IDs: soft.Stage2IDs()})
	if err != nil {
		log.Fatal(err)
	}
	caps, _ := host.Capabilities()
	ids, err := idr.Derive(idr.Policy{smmuv3.S2P: 1}, caps)
	if err != nil {
		log.Fatal(err)
	}
	smmu, err := vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: ram, Interrupts: wires{}})
	if err != nil {
		log.Fatal(err)
	}
	defer smmu.Close()
	idr0 := smmu.Load(smmuv3.RegIDR0, 4)
	fmt.Printf("stage 1: %t\nstage 2: %t\n", idr0&2 != 0, idr0&1 != 0)
	// Output:
	// stage 1: true
	// stage 2: true
}

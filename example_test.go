package vsmmuv3_test

import (
	"fmt"
	"log"

	vsmmuv3 "github.com/go-vsmmu/vsmmuv3"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// A VMM with 1 MiB of guest memory puts a disk that it emulates behind an SMMU.
func Example() {
	ram := new(guestmem.Slots)
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)}); err != nil {
		log.Fatal(err)
	}
	setSPI := func(spi uint32, level bool) error { return nil } // KVM_IRQ_LINE, or the VMM's GIC
	smmu, err := vsmmuv3.New(vsmmuv3.Config{Memory: ram, Interrupts: vsmmu.SPIs(74, setSPI)})
	if err != nil {
		log.Fatal(err)
	}
	defer smmu.Close()
	disk, err := smmu.Endpoint(0x10) // the StreamID that the guest's firmware has for the disk
	if err != nil {
		log.Fatal(err)
	}

	// The guest's accesses to the SMMU's 128 KiB of registers go here ...
	fmt.Printf("IDR0: %#x\n", smmu.Load(smmuv3.RegIDR0, 4))
	// ... and the disk's model does its DMA through its endpoint.
	fmt.Println("DMA:", disk.WriteAt([]byte("a block"), 0x4000_0000))
	stage, _ := smmu.Stage(0x10)
	fmt.Println("stream 0x10:", stage)
	// Output:
	// IDR0: 0x908109a
	// DMA: <nil>
	// stream 0x10: bypass (SMMU disabled)
}

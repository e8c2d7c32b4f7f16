package edu_test

import (
	"fmt"
	"log"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/edu/regs"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/pci"
)

// A function at 00:02.0 writes 8 bytes of its buffer to memory. Its stream bypasses the SMMU.
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
	f, err := edu.New(edu.Config{Features: edu.Features{PASIDBits: 20, ATS: true}})
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	stream, err := host.Attach(0x10, f.Endpoint())
	if err != nil {
		log.Fatal(err)
	}
	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass})

	const bar = 0x1000_0000
	window := pci.Window{Base: bar, Size: 1 << 20}
	bus, err := pci.NewHost(1, window)
	if err != nil {
		log.Fatal(err)
	}
	if err := bus.AddFunction(2, 0, f, f.Connect); err != nil {
		log.Fatal(err)
	}
	bus.ECAM().Store(2<<15+pci.RegBAR0, 4, bar)
	bus.ECAM().Store(2<<15+pci.RegCommand, 2, pci.CommandMemory|pci.CommandMaster)

	driver := bus.Memory(window)
	driver.Store(regs.DMASource, 8, regs.Buffer)
	driver.Store(regs.DMADest, 8, 0x4000_1000)
	driver.Store(regs.DMACount, 8, 8)
	driver.Store(regs.DMACmd, 8, regs.DMAStart|regs.DMAToMemory)
	for driver.Load(regs.DMACmd, 8)&regs.DMAStart != 0 {
	}
	outcome := regs.Outcome(driver.Load(regs.Result, 8))
	fmt.Println(outcome.Code(), outcome.Bytes())
	// Output:
	// success 8
}

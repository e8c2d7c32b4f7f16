package vsmmutest_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// A VMM tests how it embeds the device: the guest maps a page for a device, the device writes to
// it, and the guest unmaps it. In a VMM the register file is an adapter that sends accesses through
// the VMM's own MMIO bus.
func Example() {
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	const ram, sid, page, iova = 0x4000_0000, 0x10, 0x4080_0000, 0xdead_0000

	// The VMM: memory, a device, an endpoint.
	var mem guestmem.Slots
	check(mem.Add(guestmem.Slot{GPA: ram, Mem: make([]byte, 16<<20)}))
	host, err := soft.New(soft.Config{Memory: &mem})
	check(err)
	caps, err := host.Capabilities()
	check(err)
	ids, err := idr.Derive(nil, caps)
	check(err)
	dev, err := vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: &mem, Interrupts: noInterrupts{}})
	check(err)
	defer dev.Close()
	nic := soft.NewEndpoint()
	check(dev.Attach(sid, host, nic))

	// The guest.
	g := vsmmutest.NewGuest(&mem, guestmem.Range{GPA: ram, Len: 8 << 20}, dev)
	check(g.Enable())
	check(g.MapStage1(sid, iova, page, 0x1000))
	fmt.Println("mapped:", nic.WriteAt([]byte("hello"), iova))
	var p [5]byte
	check(mem.ReadAt(p[:], page))
	fmt.Printf("in memory: %s\n", p)
	check(g.Unmap(sid, iova, 0x1000))
	fmt.Println("unmapped:", errors.Is(nic.WriteAt([]byte("again"), iova), soft.ErrFault))
	ev, err := g.WaitEvent()
	check(err)
	fmt.Println("event:", ev)
	// Output:
	// mapped: <nil>
	// in memory: hello
	// unmapped: true
	// event: F_TRANSLATION stream 0x10 write at 0xdead0000
}

// The memory layer alone, for tests of a host: an address space and its CD, without an SMMU.
func ExampleNewStage1() {
	var mem guestmem.Fake
	ram := vsmmutest.NewRAM(&mem, guestmem.Range{GPA: 0x4000_0000, Len: 1 << 20})
	space, err := vsmmutest.NewStage1(ram, soft.DefaultIDs(), vsmmutest.Layout{}, 7)
	if err != nil {
		log.Fatal(err)
	}
	if err := space.Map(0x20_0000, 0x8000_0000, 0x20_1000, smmuv3.LeafAttrs{ReadOnly: true}); err != nil {
		log.Fatal(err)
	}
	for _, iova := range []uint64{0x20_0000, 0x40_0ff8} {
		to, leaf, err := space.Lookup(iova)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%#x: %v by descriptor %#x\n", iova, to, uint64(leaf))
	}
	cd := space.CD()
	fmt.Printf("CD: TTB0 %#x, ASID %d\n", cd[1], cd.ASID())
	// Output:
	// 0x200000: 0x80000000 by descriptor 0x80000fc1
	// 0x400ff8: 0x80200ff8 by descriptor 0x80200fc3
	// CD: TTB0 0x40000000, ASID 7
}

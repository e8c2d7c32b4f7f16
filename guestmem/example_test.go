package guestmem_test

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// A VMM has the guest's memory in two mappings, and unplugs the second.
func ExampleSlots() {
	low, high := make([]byte, 64<<10), make([]byte, 64<<10)

	var mem guestmem.Slots
	for _, s := range []guestmem.Slot{{GPA: 0x4000_0000, Mem: low}, {GPA: 0x4001_0000, Mem: high}} {
		if err := mem.Add(s); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println(mem.WriteAt([]byte("across"), 0x4000_fffd), string(high[:3]))

	if err := mem.Remove(0x4001_0000); err != nil {
		fmt.Println(err)
	}
	// No device accesses high any more: it can be unmapped.
	fmt.Println(mem.WriteAt([]byte("across"), 0x4000_fffd))

	// Output:
	// <nil> oss
	// guestmem: write of 6 bytes at 0x40010000: no guest memory
}

// A VMM migrates a guest whose devices continue to write. In each round it also reads the
// hypervisor's log of the vCPUs' stores, which this example omits.
func ExampleTracked() {
	const base, size = 0x4000_0000, 1 << 20
	var slots guestmem.Slots
	if err := slots.Add(guestmem.Slot{GPA: base, Mem: make([]byte, size)}); err != nil {
		fmt.Println(err)
	}
	mem, err := guestmem.NewTracked(&slots)
	if err != nil {
		fmt.Println(err)
		return
	}
	// soft.Config.Memory and vsmmu.Config.Memory are mem.

	destination := make([]byte, size)
	send := func(r guestmem.Range) {
		if err := mem.ReadAt(destination[r.GPA-base:][:r.Len], r.GPA); err != nil {
			fmt.Println(err)
		}
	}

	mem.NewAccount() // round 0: copy all memory
	send(guestmem.Range{GPA: base, Len: size})
	_ = mem.WriteAt([]byte("a block of the disk"), 0x4000_1ff8)

	for r := range mem.NewAccount().Ranges() { // round n: copy what was written since
		fmt.Println("round 1:", r)
		send(r)
	}
	_ = mem.WriteAt([]byte("an event record"), 0x4008_0000)

	// Last round: the vCPUs and endpoints are stopped, and vsmmu.Device.Save has returned.
	for r := range mem.Stop().Ranges() {
		fmt.Println("last round:", r)
		send(r)
	}
	fmt.Printf("%s, %s\n", destination[0x1ff8:][:19], destination[0x80000:][:15])

	// Output:
	// round 1: 0x40001000 to 0x40002fff
	// last round: 0x40080000 to 0x40080fff
	// a block of the disk, an event record
}

package guestmem_test

import (
	"encoding/binary"
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// A VMM that has the guest's memory in two mappings, of which the second may be
// unplugged.
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
	// Nobody uses high any more: it can be unmapped.
	fmt.Println(mem.WriteAt([]byte("across"), 0x4000_fffd))

	// Output:
	// <nil> oss
	// guestmem: write of 6 bytes at 0x40010000: no guest memory
}

// A structure that is checked and then used is read once.
func ExampleSnapshot() {
	var guest guestmem.Fake
	guest.SetWords(0x1000, 0xcafe)

	v, err := guestmem.Snapshot(&guest, 0x1000, 8)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer v.Release()
	guest.SetWords(0x1000, 0xdead) // too late
	fmt.Printf("%#x\n", binary.LittleEndian.Uint64(v.AsSlice()))

	// Output:
	// 0xcafe
}

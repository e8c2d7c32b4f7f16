//go:build linux && (amd64 || arm64)

package iommufd_test

import (
	"log"

	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
)

// A VMM passes a PCI device through: the host that its vsmmu.Device is to have.
func Example() {
	host, err := iommufd.Open(iommufd.Config{})
	if err != nil {
		log.Fatal(err) // it says what is missing
	}
	defer host.Close()

	path, err := iommufd.FindDevice("0000:00:02.0")
	if err != nil {
		log.Fatal(err)
	}
	device, err := host.Add(path)
	if err != nil {
		log.Fatal(err)
	}

	// The guest's memory: for the device's DMA here, for the virtual SMMU in guestmem.Slots.
	ram, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		log.Fatal(err)
	}
	slot := guestmem.Slot{GPA: 0x4000_0000, Mem: ram}
	if err := host.Map(slot); err != nil {
		log.Fatal(err)
	}

	caps, err := host.Capabilities() // for idr.Derive, and so for vsmmu.New
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("IDR0 %#x", caps.IDs.IDR[0])
	log.Printf("regions and interrupts are at descriptor %d", device.FD())
	// Now smmu.Attach(0x10, host, device).
}

//go:build linux && (amd64 || arm64)

package iommufd_test

import (
	"errors"
	"fmt"
	"log"

	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// wires connects the SMMU to the guest's interrupt controller.
type wires struct{}

func (wires) Pulse(vsmmu.Line) error               { return nil }
func (wires) SignalMSI(guestmem.GPA, uint32) error { return nil }

// A VMM passes a PCI device through and emulates a disk behind the same virtual SMMU.
func Example() {
	physical, err := iommufd.Open(iommufd.Config{})
	if err != nil {
		log.Fatal(err) // the error includes advice
	}
	defer physical.Close()

	path, err := iommufd.FindDevice("0000:00:02.0")
	if err != nil {
		log.Fatal(err)
	}
	device, err := physical.Add(path)
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("descriptor %d is for regions and interrupts", device.FD())

	// The guest's memory: for the device's DMA, and for software.
	mem, err := unix.Mmap(-1, 0, 1<<30, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		log.Fatal(err)
	}
	slot := guestmem.Slot{GPA: 0x4000_0000, Mem: mem}
	if err := physical.Map(slot); err != nil {
		log.Fatal(err)
	}
	ram := new(guestmem.Slots)
	if err := ram.Add(slot); err != nil {
		log.Fatal(err)
	}

	// The guest reads the features that both hosts execute.
	caps, err := physical.Capabilities()
	if err != nil {
		log.Fatal(err)
	}
	ids, err := idr.Derive(nil, caps, bridge.Capabilities{IDs: soft.DefaultIDs()})
	if err != nil {
		log.Fatal(err)
	}
	emulated, err := soft.New(soft.Config{Memory: ram})
	if err != nil {
		log.Fatal(err)
	}
	defer emulated.Close()

	smmu, err := vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: ram, Interrupts: wires{}})
	if err != nil {
		log.Fatal(err)
	}
	defer smmu.Close() // before its hosts
	if err := smmu.Attach(0x10, physical, device); err != nil {
		log.Fatal(err)
	}
	if err := smmu.Attach(0x18, emulated, soft.NewEndpoint()); err != nil {
		log.Fatal(err)
	}
}

// An error names the missing part and matches a sentinel.
func ExampleOpen() {
	_, err := iommufd.Open(iommufd.Config{Path: "/nonexistent/iommu"})
	fmt.Println(err)
	fmt.Println(errors.Is(err, iommufd.ErrUnsupported))
	// Output:
	// iommufd: open /nonexistent/iommu: no such file or directory (the kernel needs CONFIG_IOMMUFD, and the module iommufd must be loaded)
	// true
}

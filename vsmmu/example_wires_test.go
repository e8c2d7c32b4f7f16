package vsmmu_test

import (
	"fmt"
	"io"
	"os"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// A VMM sets the levels of interrupts by one function, such as KVM_IRQ_LINE, and sends MSIs by
// another. Guests that poll for the message of a CMD_SYNC need no wire for it.
func ExampleSPIs() {
	setSPI := func(spi uint32, level bool) error {
		fmt.Println("SPI", spi, level)
		return nil
	}
	sendMSI := func(addr guestmem.GPA, data uint32) error {
		fmt.Printf("MSI %v: %d\n", addr, data)
		return nil
	}
	wires := vsmmu.WithMSI(vsmmu.SPIs(74, setSPI, vsmmu.LineCmdSync), sendMSI)
	fmt.Println(wires.Pulse(vsmmu.LineGError))
	fmt.Println(wires.Pulse(vsmmu.LineCmdSync))
	fmt.Println(wires.SignalMSI(0x0808_0040, 1))
	// Output:
	// SPI 77 true
	// SPI 77 false
	// <nil>
	// <nil>
	// MSI 0x8080040: 1
	// <nil>
}

// A VMM connects eventfds to the SMMU's SPIs by KVM_IRQFD. Here a pipe is in place of the eventfd.
func ExampleEventFDs() {
	r, w, err := os.Pipe() // os.NewFile(fd, "eventq") of an eventfd
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()
	wires := vsmmu.EventFDs([vsmmu.NumLines]io.Writer{vsmmu.LineEventQ: w})
	fmt.Println(wires.Pulse(vsmmu.LineEventQ))
	_ = w.Close()
	sent, _ := io.ReadAll(r)
	fmt.Println(sent)
	// Output:
	// <nil>
	// [1 0 0 0 0 0 0 0]
}

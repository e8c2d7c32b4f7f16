package soft_test

import (
	"fmt"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// A device model's DMA, in a stream that bypasses and then aborts. In a VMM it
// is vsmmu.Device that attaches the endpoint and binds stages, as the guest's
// Stream table says.
func Example() {
	var ram guestmem.Slots
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)}); err != nil {
		panic(err)
	}
	host, err := soft.New(soft.Config{Memory: &ram})
	if err != nil {
		panic(err)
	}
	defer host.Close()
	host.Events(func(e smmuv3.Event) { fmt.Println("event:", e) })

	ep := soft.NewEndpoint()
	stream, err := host.Attach(0x10, ep)
	if err != nil {
		panic(err)
	}

	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass})
	fmt.Println(ep.WriteAt([]byte("hello"), 0x4000_0000))

	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Abort, Cause: smmuv3.CBadSTE})
	fmt.Println(ep.WriteAt([]byte("hello"), 0x4000_0000))
	// Output:
	// <nil>
	// event: C_BAD_STE stream 0x10
	// soft: write at 0x40000000, stream 0x10, after 0 bytes: terminated by the SMMU: C_BAD_STE
}

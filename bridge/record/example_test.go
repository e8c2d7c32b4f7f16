package record_test

import (
	"fmt"
	"log"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// What a device asks of its host, and what it makes of one that fails: here the device's
// part is played by hand.
func Example() {
	var ids smmuv3.IDRegs // those of the host that is pretended
	ids.Set(smmuv3.S1P, 1)
	host := record.New(bridge.Capabilities{IDs: ids})
	host.Events(func(e smmuv3.Event) { fmt.Println("event:", e) })

	stream, err := host.Attach(0x10, "nic") // any endpoint will do
	if err != nil {
		log.Fatal(err)
	}
	host.FailWith(func(c record.Call) error {
		if c.Op == record.Bind && c.Stage.Disposition == bridge.Translate {
			return bridge.ErrRejected
		}
		return nil
	})
	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x4000_0000})
	_ = stream.Bind(bridge.GuestStage{Cause: smmuv3.CBadSTE})
	host.Emit(smmuv3.NewEvent(smmuv3.CBadSTE, 0x10)) // as a fault of the endpoint's DMA would be
	for _, c := range host.Calls() {
		fmt.Println(c)
	}
	// Output:
	// event: C_BAD_STE stream 0x10
	// attach 0x10
	// bind 0x10: translate s1fmt=linear s1dss=terminate s1cdmax=0 cd=0x40000000 s1cir=0 s1cor=0 s1csh=0 s1stalld=false eats=none -> stage not supported by the host
	// bind 0x10: abort with C_BAD_STE
}

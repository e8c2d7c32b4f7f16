package soft_test

import (
	"context"
	"errors"
	"fmt"
	"sync"

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

// A device model with an ATC: it asks for a translation, keeps it, and has memory
// without being translated again, until the guest takes that back.
func ExampleEndpoint_EnableATS() {
	var ram guestmem.Slots
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)}); err != nil {
		panic(err)
	}
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.ATS, 1)
	host, err := soft.New(soft.Config{Memory: &ram, IDs: ids})
	if err != nil {
		panic(err)
	}
	defer host.Close()

	var mu sync.RWMutex // held while kept is used, and from before it is asked for
	var kept soft.Translation
	ep := soft.NewEndpoint()
	ep.EnableATS(soft.ATS{Invalidate: func(r soft.ATCRange) {
		mu.Lock()
		defer mu.Unlock()
		if r.Reaches(kept) {
			kept = soft.Translation{}
			fmt.Println("dropped")
		}
	}})
	stream, err := host.Attach(0x10, ep)
	if err != nil {
		panic(err)
	}
	// The guest's table of CDs is for PASIDs only; what has none passes stage 1.
	_ = stream.Bind(bridge.GuestStage{
		Disposition: bridge.Translate, S1CDMax: 1, S1DSS: smmuv3.S1DSSBypass, EATS: smmuv3.EATSFull,
	})

	mu.Lock()
	kept, err = ep.Translate(0x4000_0000, true)
	mu.Unlock()
	fmt.Println(kept.Read, kept.Write, err)
	mu.RLock()
	fmt.Println(ep.WriteTranslated([]byte("hello"), kept.Addr+0x4000_0000))
	mu.RUnlock()
	everything := smmuv3.NewATCInvAll(0x10)
	_ = host.Invalidate(everything[:1]) // the device above passes a guest's CMD_ATC_INV on
	// Output:
	// true true <nil>
	// <nil>
	// dropped
}

// A device model whose DMA stalls on faults, as long as the device is not reset.
func ExampleEndpoint_AllowStalls() {
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.StallModel, smmuv3.StallBoth)
	ids.Set(smmuv3.StallMax, 16)
	host, err := soft.New(soft.Config{Memory: new(guestmem.Slots), IDs: ids})
	if err != nil {
		panic(err)
	}
	defer host.Close()

	ep := soft.NewEndpoint()
	running, reset := context.WithCancelCause(context.Background())
	ep.AllowStalls(running)
	go func() {
		// Once the endpoint is attached this waits for the guest where the guest wants
		// it to.
		_ = ep.ReadAt(make([]byte, 512), 0x1000)
	}()
	// When the guest resets the device, what waits fails, and a new life begins.
	reset(errors.New("the device was reset"))
	running, reset = context.WithCancelCause(context.Background())
	ep.AllowStalls(running)
	reset(nil)
	// Output:
}

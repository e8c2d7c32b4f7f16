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

// newRAM1M returns 1 MiB of guest memory at 0x4000_0000.
func newRAM1M() *guestmem.Slots {
	ram := new(guestmem.Slots)
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)}); err != nil {
		panic(err)
	}
	return ram
}

// newStream returns a host that offers these ID registers, or soft.DefaultIDs if they are zero,
// with an endpoint attached as stream 0x10.
func newStream(ids smmuv3.IDRegs) (*soft.Host, *soft.Endpoint, bridge.Stream) {
	host, err := soft.New(soft.Config{Memory: newRAM1M(), IDs: ids})
	if err != nil {
		panic(err)
	}
	ep := soft.NewEndpoint()
	stream, err := host.Attach(0x10, ep)
	if err != nil {
		panic(err)
	}
	return host, ep, stream
}

// A device model performs DMA in a stream that bypasses and then aborts. In a VMM, vsmmu.Device
// attaches the endpoint, and binds the stages of the guest's Stream table.
func Example() {
	host, ep, stream := newStream(smmuv3.IDRegs{})
	defer host.Close()
	_ = host.Events(func(e smmuv3.Event) { fmt.Println("event:", e) })

	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass})
	fmt.Println(ep.WriteAt([]byte("hello"), 0x4000_0000))

	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Abort, Cause: smmuv3.CBadSTE})
	fmt.Println(ep.WriteAt([]byte("hello"), 0x4000_0000))
	// Output:
	// <nil>
	// event: C_BAD_STE stream 0x10
	// soft: write at 0x40000000, stream 0x10, after 0 bytes: terminated by the SMMU: C_BAD_STE
}

// New refuses ID registers that the package does not implement.
func ExampleNew() {
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.SSIDSIZE, 8)
	_, err := soft.New(soft.Config{Memory: newRAM1M(), IDs: ids, TLBEntries: 1024})
	fmt.Println(err)

	ids.Set(smmuv3.BTM, 1)
	_, err = soft.New(soft.Config{Memory: newRAM1M(), IDs: ids})
	fmt.Println(err)
	// Output:
	// <nil>
	// soft: new host: IDR0.BTM = 1 is not implemented
}

// The guest gets 44-bit addresses from a host that offers 48 bits. vsmmu.Device calls SetGuestIDs.
func ExampleHost_SetGuestIDs() {
	host, err := soft.New(soft.Config{Memory: newRAM1M()})
	if err != nil {
		panic(err)
	}
	defer host.Close()
	caps, _ := host.Capabilities()
	guest := caps.IDs
	guest.Set(smmuv3.OAS, 4)
	fmt.Println(host.SetGuestIDs(guest))
	_ = host.Events(func(e smmuv3.Event) { fmt.Println("event:", e.Type()) })

	ep := soft.NewEndpoint()
	stream, err := host.Attach(0x10, ep)
	if err != nil {
		panic(err)
	}
	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass})
	_ = ep.ReadAt(make([]byte, 4), 1<<44)
	// Output:
	// <nil>
	// event: F_ADDR_SIZE
}

// A device model reads a buffer in place.
func ExampleEndpoint_Map() {
	host, ep, stream := newStream(smmuv3.IDRegs{})
	defer host.Close()
	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass})
	_ = ep.WriteAt([]byte("hello"), 0x4000_0ffe)

	m, err := ep.Map(0x4000_0ffe, 5, false, nil)
	if err != nil {
		panic(err)
	}
	defer m.Release() // the guest's CMD_SYNC waits for it
	for _, segment := range m.Segments {
		fmt.Printf("%s\n", segment)
	}
	// Output:
	// hello
}

// A device model publishes the index of a ring, after the ring's entry.
func ExampleEndpoint_Store() {
	host, ep, stream := newStream(smmuv3.IDRegs{})
	defer host.Close()
	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass})
	_ = ep.WriteAt([]byte{1, 2, 3, 4}, 0x4000_0100)
	fmt.Println(ep.Store(0x4000_0002, 2, 1))
	fmt.Println(ep.Load(0x4000_0002, 2))
	_, err := ep.Load(0x4000_0001, 2)
	fmt.Println(errors.Is(err, guestmem.ErrMisaligned))
	// Output:
	// <nil>
	// 1 <nil>
	// true
}

// A device model with an ATC requests a translation, stores it, and accesses memory without
// another translation until the guest invalidates it.
func ExampleEndpoint_EnableATS() {
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.ATS, 1)
	host, ep, stream := newStream(ids)
	defer host.Close()

	var mu sync.RWMutex // held while stored is used, and from the request until the translation is stored
	var stored soft.Translation
	ep.EnableATS(soft.ATS{Invalidate: func(r soft.ATCRange) {
		mu.Lock()
		defer mu.Unlock()
		if r.Reaches(stored) {
			stored = soft.Translation{}
			fmt.Println("dropped")
		}
	}})
	// The guest's table of CDs is for PASIDs only. A request without one bypasses stage 1.
	_ = stream.Bind(bridge.GuestStage{
		Disposition: bridge.Translate, S1CDMax: 1, S1DSS: smmuv3.S1DSSBypass, EATS: smmuv3.EATSFull,
	})

	mu.Lock()
	var err error
	stored, err = ep.Translate(0x4000_0000, true)
	mu.Unlock()
	fmt.Println(stored.Read, stored.Write, err)
	mu.RLock()
	fmt.Println(ep.WriteTranslated([]byte("hello"), stored.Addr+0x4000_0000))
	mu.RUnlock()
	everything := smmuv3.NewATCInvAll(0x10)
	_ = host.Invalidate(everything[:1]) // vsmmu.Device forwards the guest's CMD_ATC_INV
	// Output:
	// true true <nil>
	// <nil>
	// dropped
}

// A device model's DMA stalls on a fault, until the device is reset.
func ExampleEndpoint_AllowStalls() {
	ids := soft.DefaultIDs()
	ids.Set(smmuv3.StallModel, smmuv3.StallBoth)
	ids.Set(smmuv3.StallMax, 16)
	host, ep, stream := newStream(ids)
	defer host.Close()
	stalled := make(chan struct{})
	_ = host.Events(func(e smmuv3.Event) { fmt.Println(e.Type()); close(stalled) })

	// A CD with S = 1, and tables that map nothing.
	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Bypass})
	var cd [smmuv3.CDSize]byte
	smmuv3.CD{0: 0x0001_7205_c000_0010, 1: 0x4000_1000}.Put(&cd)
	_ = ep.WriteAt(cd[:], 0x4000_0000)
	_ = stream.Bind(bridge.GuestStage{Disposition: bridge.Translate, S1ContextPtr: 0x4000_0000})

	running, reset := context.WithCancelCause(context.Background())
	ep.AllowStalls(running)
	done := make(chan error)
	go func() { done <- ep.ReadAt(make([]byte, 512), 0x1000) }()
	<-stalled
	reset(errors.New("the device was reset"))
	fmt.Println(<-done)
	// The device that was reset starts again.
	running, reset = context.WithCancelCause(context.Background())
	ep.AllowStalls(running)
	reset(nil)
	// Output:
	// F_TRANSLATION
	// soft: read at 0x1000, stream 0x10, after 0 bytes: terminated by the SMMU while it was stalled: the device was reset: F_TRANSLATION
}

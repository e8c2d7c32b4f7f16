package record_test

import (
	"errors"
	"fmt"
	"log"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// A Host records the calls that a device makes. The example makes these calls itself.
func Example() {
	host := record.New(bridge.Capabilities{IDs: soft.DefaultIDs()})
	if err := host.Events(func(e smmuv3.Event) { fmt.Println("event:", e) }); err != nil {
		log.Fatal(err)
	}
	stream, err := host.Attach(0x10, "nic") // any endpoint but nil
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
	host.Emit(smmuv3.NewCBadSTE(0x10)) // as an endpoint's DMA would
	for _, c := range host.Calls() {
		fmt.Println(c)
	}
	// Output:
	// event: C_BAD_STE stream 0x10
	// attach 0x10
	// bind 0x10: translate s1fmt=linear s1dss=terminate s1cdmax=0 cd=0x40000000 s1cir=0 s1cor=0 s1csh=0 s1stalld=false eats=none -> stage not supported by the host
	// bind 0x10: abort with C_BAD_STE
}

type noInterrupts struct{}

func (noInterrupts) Pulse(vsmmu.Line) error               { return nil }
func (noInterrupts) SignalMSI(guestmem.GPA, uint32) error { return nil }

// A VMM tests its behaviour when a host fails: at Attach, and later when the guest configures the
// stream. The stream aborts, and does not keep a stage that the guest replaced.
func Example_failingHost() {
	host := record.New(bridge.Capabilities{IDs: soft.DefaultIDs()})
	var mem guestmem.Fake
	ids, err := idr.Derive(nil, bridge.Capabilities{IDs: soft.DefaultIDs()})
	if err != nil {
		log.Fatal(err)
	}
	dev, err := vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: &mem, Interrupts: noInterrupts{}})
	if err != nil {
		log.Fatal(err)
	}
	defer dev.Close()

	noHost := errors.New("no such host")
	for _, op := range []record.Op{record.Capabilities, record.Events, record.SetGuestIDs, record.Attach} {
		host.FailOp(op, noHost)
		err := dev.Attach(0x10, host, "nic")
		fmt.Printf("%s fails: Attach fails with its cause: %t\n", op, errors.Is(err, noHost))
	}
	host.FailWith(nil)
	if err := dev.Attach(0x10, host, "nic"); err != nil {
		log.Fatal(err)
	}

	g := vsmmutest.NewGuest(&mem, guestmem.Range{GPA: 0x4000_0000, Len: 1 << 20}, dev)
	if err := g.Enable(); err != nil {
		log.Fatal(err)
	}
	host.FailWith(func(c record.Call) error {
		if c.Op == record.Bind && c.Stage.Disposition != bridge.Abort {
			return bridge.ErrRejected
		}
		return nil
	})
	if err := g.Bypass(0x10); err != nil {
		log.Fatal(err)
	}
	stage, _ := host.Stage(0x10)
	fmt.Println("the stream's stage:", stage)
	// Output:
	// capabilities fails: Attach fails with its cause: true
	// events fails: Attach fails with its cause: true
	// set guest IDs fails: Attach fails with its cause: true
	// attach fails: Attach fails with its cause: true
	// the stream's stage: abort with C_BAD_STE
}

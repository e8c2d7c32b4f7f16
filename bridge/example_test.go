package bridge_test

import (
	"fmt"
	"log"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
	"github.com/go-vsmmu/vsmmuv3/vsmmutest"
)

// printer is a minimal host: it prints each call and translates nothing. Its endpoints are strings.
// A real host also passes bridgetest.Run.
type printer struct {
	ids     smmuv3.IDRegs
	claimed bool
	closed  bool
}

func (h *printer) Capabilities() (bridge.Capabilities, error) {
	return bridge.Capabilities{IDs: h.ids}, nil
}

func (h *printer) Events(sink func(smmuv3.Event)) error {
	if sink != nil && h.claimed {
		return bridge.ErrInUse
	}
	h.claimed = sink != nil // a real host keeps the sink and reports faults to it
	return nil
}

func (h *printer) SetGuestIDs(smmuv3.IDRegs) error { return nil }

func (h *printer) Attach(sid smmuv3.StreamID, ep bridge.Endpoint) (bridge.Stream, error) {
	name, ok := ep.(string)
	if !ok {
		return nil, bridge.ErrEndpoint // the cause only: the device adds the rest
	}
	fmt.Printf("attach %s as %v\n", name, sid)
	return &printed{name: name}, nil
}

func (h *printer) Invalidate(cmds []smmuv3.Command) error {
	fmt.Println("invalidate", cmds)
	return nil
}

func (h *printer) Close() error { return closeOnce(&h.closed) }

// printed is a stream of a printer.
type printed struct {
	name   string
	closed bool
}

func (s *printed) Bind(g bridge.GuestStage) error {
	fmt.Printf("%s: %v\n", s.name, g)
	return nil
}

func (s *printed) Close() error { return closeOnce(&s.closed) }

func closeOnce(closed *bool) error {
	if *closed {
		return bridge.ErrClosed
	}
	*closed = true
	return nil
}

type noInterrupts struct{}

func (noInterrupts) Pulse(vsmmu.Line) error               { return nil }
func (noInterrupts) SignalMSI(guestmem.GPA, uint32) error { return nil }

// A minimal host prints the calls that a device makes while the guest sets up a stream.
func Example() {
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}
	host := &printer{ids: soft.DefaultIDs()}
	ids, err := idr.Derive(nil, bridge.Capabilities{IDs: host.ids})
	check(err)
	var mem guestmem.Fake
	dev, err := vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: &mem, Interrupts: noInterrupts{}})
	check(err)
	defer dev.Close()
	check(dev.Attach(0x10, host, "nic"))
	fmt.Println(dev.Attach(0x11, host, 11))

	g := vsmmutest.NewGuest(&mem, guestmem.Range{GPA: 0x4000_0000, Len: 1 << 20}, dev)
	check(g.Enable())
	check(g.Bypass(0x10))
	check(g.Run(smmuv3.NewTLBINHASID(0, 7)))
	check(dev.Detach(0x10))
	check(host.Close())
	// Output:
	// attach nic as 0x10
	// nic: bypass (SMMU disabled)
	// vsmmu: attach stream 0x11: not an endpoint of this host
	// invalidate [CFGI_CD_ALL StreamID=0x10 TLBI_NSNH_ALL]
	// nic: abort
	// nic: bypass
	// invalidate [TLBI_NH_ASID ASID=0x7]
}

package transcript_test

import (
	"bytes"
	"context"
	"fmt"
	"log"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/transcript"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

type wires struct{}

func (wires) Pulse(vsmmu.Line) error               { return nil }
func (wires) SignalMSI(guestmem.GPA, uint32) error { return nil }

// A VMM has its device recorded, and what was recorded is replayed without the VMM.
func Example() {
	ram := new(guestmem.Slots)
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)}); err != nil {
		log.Fatal(err)
	}
	host, err := soft.New(soft.Config{Memory: ram})
	if err != nil {
		log.Fatal(err)
	}
	caps, _ := host.Capabilities()
	ids, err := idr.Derive(nil, caps)
	if err != nil {
		log.Fatal(err)
	}
	var file bytes.Buffer // a file, as a rule
	smmu, err := transcript.Record(&file, vsmmu.Config{IDs: ids.IDs, Memory: ram, Interrupts: wires{}},
		transcript.Options{Title: "an example", Streams: map[smmuv3.StreamID]string{0x10: "disk"}})
	if err != nil {
		log.Fatal(err)
	}

	// From here on the recorder stands in the device's place.
	if err := smmu.Attach(0x10, host, soft.NewEndpoint()); err != nil {
		log.Fatal(err)
	}
	smmu.Note("the guest looks what it has got")
	smmu.Load(smmuv3.RegIDR0, 4)
	if err := smmu.Close(); err != nil { // of the device, and of the transcript
		log.Fatal(err)
	}

	t, err := transcript.Read(&file)
	if err != nil {
		log.Fatal(err)
	}
	for _, e := range t.Entries {
		fmt.Println(e.Body)
	}
	fmt.Println("differs:", transcript.Replay(context.Background(), t))
	// Output:
	// attach of stream 0x10 to host 0
	// host 0 asked for its capabilities
	// attach stream 0x10 to host 0
	// bind stream 0x10: bypass (SMMU disabled)
	// attach of stream 0x10 succeeds
	// the guest looks what it has got
	// load of IDR0 reads 0x908109a
	// close
	// close stream 0x10
	// close succeeds
	// the end
	// differs: <nil>
}

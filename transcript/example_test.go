package transcript_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"

	"github.com/go-vsmmu/vsmmuv3/bridge"
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

// A VMM records its device. The recording is replayed without the VMM.
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
	var file bytes.Buffer // usually an *os.File
	smmu, err := transcript.Record(&file, vsmmu.Config{IDs: ids.IDs, Memory: ram, Interrupts: wires{}},
		transcript.Options{Title: "an example", Streams: map[smmuv3.StreamID]string{0x10: "disk"}})
	if err != nil {
		log.Fatal(err)
	}

	// The recorder takes the place of the device.
	if err := smmu.Attach(0x10, host, soft.NewEndpoint()); err != nil {
		log.Fatal(err)
	}
	smmu.Note("the driver probes")
	smmu.Load(smmuv3.RegIDR0, 4)
	if err := smmu.Close(); err != nil { // ends the device and the transcript
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
	// host 0: claim STE refetches
	// attach stream 0x10 to host 0
	// bind stream 0x10: bypass (SMMU disabled)
	// attach of stream 0x10 succeeds
	// the driver probes
	// load of IDR0 reads 0x908109a
	// close
	// close stream 0x10
	// host 0: release STE refetches
	// close succeeds
	// the end
	// differs: <nil>
}

// recorder returns a recorder of a new device.
func recorder(w io.Writer) *transcript.Recorder {
	ram := new(guestmem.Slots)
	if err := ram.Add(guestmem.Slot{GPA: 0x4000_0000, Mem: make([]byte, 1<<20)}); err != nil {
		log.Fatal(err)
	}
	ids, err := idr.Derive(nil, bridge.Capabilities{IDs: soft.DefaultIDs()})
	if err != nil {
		log.Fatal(err)
	}
	cfg := vsmmu.Config{IDs: ids.IDs, Memory: ram, Interrupts: wires{}}
	smmu, err := transcript.Record(w, cfg, transcript.Options{})
	if err != nil {
		log.Fatal(err)
	}
	return smmu
}

// record returns the transcript of a guest that reads and writes registers.
func record() *bytes.Buffer {
	file := new(bytes.Buffer)
	smmu := recorder(file)
	smmu.Load(smmuv3.RegIDR1, 4)
	smmu.Store(smmuv3.RegSTRTAB_BASE, 8, 0x4001_0000)
	smmu.Load(smmuv3.RegSTRTAB_BASE, 8)
	if err := smmu.Close(); err != nil {
		log.Fatal(err)
	}
	return file
}

// A Reader needs memory for one entry, for a transcript of any length.
func ExampleReader() {
	r, err := transcript.NewReader(record())
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	for {
		e, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // errors.Is(err, transcript.ErrCut) for a file without its end
			log.Fatal(err)
		}
		fmt.Printf("%v: %v\n", e.Body.Channel(), e.Body)
	}
	// Output:
	// registers: load of IDR1 reads 0x1080510
	// registers: store of 0x40010000 to STRTAB_BASE
	// registers: load of STRTAB_BASE reads 0x40010000
	// calls of the embedder: close
	// calls of the embedder: close succeeds
	// notes: the end
}

// Replay reports the first difference between the device and the recording.
func ExampleReplay() {
	t, err := transcript.Read(record())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(transcript.Replay(context.Background(), t))

	// A recording of a device that behaved differently:
	t.Entries[2].Body.(*transcript.Load).Value = 0x4002_0000
	err = transcript.Replay(context.Background(), t)
	if d := new(transcript.Difference); errors.As(err, &d) {
		fmt.Println("entry", d.Entry, "in the channel", d.Channel())
		fmt.Println("recorded:", d.Want)
		fmt.Println("now:     ", d.Got)
	}
	// Output:
	// <nil>
	// entry 2 in the channel registers
	// recorded: load of STRTAB_BASE reads 0x40020000
	// now:      load of STRTAB_BASE reads 0x40010000
}

// full is a file on a disk that has room for the header.
type full struct{ bytes.Buffer }

func (f *full) Write(p []byte) (int, error) {
	if f.Len() > 100 {
		return 0, errors.New("no space left on device")
	}
	return f.Buffer.Write(p)
}

// An error of the writer ends the transcript, not the device. Close reports it.
func ExampleRecorder_Close() {
	smmu := recorder(new(full))
	smmu.Store(smmuv3.RegSTRTAB_BASE, 8, 0x4001_0000)
	err := smmu.Close()
	fmt.Println(errors.Is(err, transcript.ErrCut))
	fmt.Println(err)
	// Output:
	// true
	// transcript: close recorder: transcript cut off: no space left on device
}

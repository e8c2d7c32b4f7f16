//go:build linux && (amd64 || arm64)

package vm

import (
	"sync/atomic"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/vmm/movable"
	"github.com/go-vsmmu/vsmmuv3/transcript"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// tape is a Sink that also writes the stages to the transcript, if the boot records one.
type tape struct {
	Sink
	job      Job
	recorder atomic.Pointer[transcript.Recorder] // nil if nothing is recorded
}

// device returns the SMMU's device, in a recorder if the boot records a transcript.
func (t *tape) device(cfg vsmmu.Config, policy idr.Policy, hosts ...bridge.Capabilities) (movable.Device, error) {
	if !t.job.Record {
		return vsmmu.New(cfg)
	}
	names := map[smmuv3.StreamID]string{}
	for i, e := range endpoints {
		names[t.job.master(i).StreamID] = e.serial
	}
	r, err := transcript.Record(writer{t.Sink}, cfg, transcript.Options{
		Title: t.job.Title, Policy: policy, Hosts: hosts, Streams: names,
	})
	if err != nil {
		return nil, err
	}
	t.recorder.Store(r)
	return r, nil
}

func (t *tape) Stage(name string) {
	t.Sink.Stage(name)
	if r := t.recorder.Load(); r != nil {
		r.Note(name)
	}
}

// dma records an endpoint's access.
func (t *tape) dma(sid smmuv3.StreamID, write bool, iova uint64, n int, err error) {
	if r := t.recorder.Load(); r != nil {
		r.DMA(sid, write, iova, uint64(n), err)
	}
}

// writer writes to a Sink's transcript.
type writer struct{ sink Sink }

func (w writer) Write(p []byte) (int, error) {
	if err := w.sink.Transcript(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

package transcript

import (
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// BenchmarkAccess measures accesses with and without a Recorder.
func BenchmarkAccess(b *testing.B) {
	cfg := vsmmu.Config{IDs: guestIDs, Memory: new(guestmem.Fake), Interrupts: wires{}}
	dev, err := vsmmu.New(cfg)
	require.NoError(b, err)
	defer dev.Close()
	rec, err := Record(io.Discard, cfg, Options{Buffer: 1 << 30})
	require.NoError(b, err)
	defer rec.Close()
	for name, d := range map[string]interface {
		Load(uint64, int) uint64
		Store(uint64, int, uint64)
	}{"plain": dev, "recorded": rec} {
		b.Run(name+"/load", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.Load(smmuv3.RegCMDQ_CONS, 4)
			}
		})
		b.Run(name+"/store", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.Store(smmuv3.RegGERROR_IRQ_CFG1, 4, 5)
			}
		})
	}
}

func BenchmarkReplay(b *testing.B) {
	g := newGuest(b, Options{})
	session(g)
	tr, err := Read(bytes.NewReader(g.closed()))
	require.NoError(b, err)
	for b.Loop() {
		require.NoError(b, Replay(b.Context(), tr))
	}
	b.ReportMetric(float64(len(tr.Entries))*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

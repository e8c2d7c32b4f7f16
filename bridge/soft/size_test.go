package soft_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// A host with room for 65,536 translations uses at most 8 MiB, all data included.
func TestHeldTranslationsAreSmall(t *testing.T) {
	const entries, most = 65536, 8 << 20
	for _, tt := range []struct {
		name  string
		ids   smmuv3.IDRegs
		stage bridge.GuestStage
		guest guestmem.GPA // physical address of the guest's address 0
		page  uint64       // attributes
	}{
		{"stage 1", soft.DefaultIDs(), oneCD, 0, pageRW},
		{"stage 2", soft.Stage2IDs(), stage2(bridge.TranslateS2, s2DW2, tableAt), 0, 0x7ff},
		{"nested", soft.Stage2IDs(), nested(0), structsAt, pageRW},
	} {
		t.Run(tt.name, func(t *testing.T) {
			mem := new(ram)
			for _, gpa := range []guestmem.GPA{0, pageAt, structsAt, dataAt, s2At} {
				require.NoError(t, mem.Add(guestmem.Slot{GPA: gpa, Mem: make([]byte, 1<<20)}))
			}
			// The stage 2 of the nested case: a block for the first GiB, and one for the page.
			mem.SetWords(s2At, structsAt|0x7fd, dataAt|0x7fd)
			// Level 0 of stage 1 points to level 1, where the stage 2 of the other case begins.
			// Each descriptor of level 2 points to the same table. All descriptors of that table map the same page.
			mem.SetWords(tt.guest+cdAt, cd4K, 0x20000)
			mem.SetWords(tt.guest+0x20000, tableAt|3)
			mem.SetWords(tt.guest+tableAt, 0x30003)
			for i := range guestmem.GPA(entries / 512) {
				mem.SetWords(tt.guest+0x30000+8*i, 0x40003)
			}
			for i := range guestmem.GPA(512) {
				mem.SetWords(tt.guest+0x40000+8*i, pageAt|tt.page)
			}

			before := liveHeap()
			host, err := soft.New(soft.Config{Memory: mem, IDs: tt.ids, TLBEntries: entries})
			require.NoError(t, err)
			defer func() { require.NoError(t, host.Close()) }()
			ep := soft.NewEndpoint()
			stream, err := host.Attach(sid, ep)
			require.NoError(t, err)
			require.NoError(t, stream.Bind(tt.stage))
			p := make([]byte, 1)
			for i := range uint64(entries) {
				require.NoError(t, ep.ReadAt(p, i<<12))
			}
			assert.LessOrEqual(t, liveHeap()-before, int64(most))

			// The guest clears the leaves without an invalidation. Only accesses that hit the TLB
			// then succeed.
			for i := range guestmem.GPA(512) {
				mem.SetWords(tt.guest+0x40000+8*i, 0)
			}
			held := 0
			for i := range uint64(entries) {
				if ep.ReadAt(p, i<<12) == nil {
					held++
				}
			}
			assert.Greater(t, held, entries*9/10, "sets are small, so some entries are evicted")
		})
	}
}

// liveHeap returns the size of reachable memory.
func liveHeap() int64 {
	var s runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&s)
	return int64(s.HeapAlloc)
}

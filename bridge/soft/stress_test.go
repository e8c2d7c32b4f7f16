package soft_test

import (
	"encoding/binary"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The guest of the stress test has versions of a mapping of four pages. Each version has its own
// tables at levels 1 to 3 and its own pages, which hold the version's number.
const (
	stressVersions = 64
	stressPages    = 4

	stressTables = 0x4_0000 // one table of level 3 for each version, then the tables of level 2, then level 1
	stressData   = 0x5000_0000

	numberAt = 0x10 // in each page: the version's number
	writeAt  = 0x18 // in each page: what devices write
)

// stressTable returns the address of a version's table of a level.
func stressTable(level int, version uint64) guestmem.GPA {
	return gpa(stressTables + uint64(3-level)*stressVersions<<12 + version<<12)
}

func stressPage(version, page uint64) guestmem.GPA {
	return gpa(stressData + (version*stressPages+page)<<12)
}

// newStressRig maps version 0.
func newStressRig(t *testing.T, mem *ram, stage bridge.GuestStage) *rig {
	cfg := soft.Config{Memory: mem, TLBEntries: 16, IDs: withATS()}
	if stage.Disposition == bridge.TranslateNested {
		cfg.IDs = soft.Stage2IDs()
		// 39 bits from level 1 on. The first MiB and the MiB of the data map to themselves.
		const l1, l2, low, data = 0x6000_0000, 0x6000_1000, 0x6000_2000, 0x6000_3000
		mem.SetWords(l1, l2|3, (l2+0x3000)|3)
		mem.SetWords(l2, low|3)
		mem.SetWords(l2+0x3000+(stressData>>21&511)*8, data|3)
		for page := range uint64(256) {
			mem.SetWords(gpa(low+8*page), page<<12|0x7ff)
			mem.SetWords(gpa(data+8*page), (stressData+page<<12)|0x7ff)
		}
	}
	r := newRig(t, cfg)
	r.guest = mem
	mem.SetWords(cdAt, cd4K, 0x10000)
	mem.SetWords(0x10000, uint64(stressTable(1, 0))|3)
	for v := range uint64(stressVersions) {
		mem.SetWords(stressTable(1, v), uint64(stressTable(2, v))|3)
		mem.SetWords(stressTable(2, v), uint64(stressTable(3, v))|3)
		for page := range uint64(stressPages) {
			mem.SetWords(stressTable(3, v)+gpa(8*page), uint64(stressPage(v, page))|pageRW)
			mem.SetWords(stressPage(v, page)+numberAt, v)
		}
	}
	r.bind(stage)
	return r
}

// stressReads are the paths by which an endpoint reads. Each returns the numbers in the pages that
// it read.
func stressReads(ep *soft.Endpoint, withATS bool) map[string]func() ([]uint64, error) {
	const all = stressPages << 12
	numbers := func(p []byte) (n []uint64) {
		for ; len(p) > 0; p = p[4096:] {
			n = append(n, guestmem.LoadWord(p[numberAt:], 8))
		}
		return n
	}
	one := func(v uint64, err error) ([]uint64, error) { return []uint64{v}, err }
	paths := map[string]func() ([]uint64, error){
		"ReadAt of a word":        func() ([]uint64, error) { return one(word(ep, numberAt)) },
		"Load":                    func() ([]uint64, error) { return one(ep.Load(numberAt, 8)) },
		"Load of two bytes":       func() ([]uint64, error) { return one(ep.Load(1<<12+numberAt, 2)) },
		"ReadAt of a port":        func() ([]uint64, error) { return one(word(ep.With(soft.Attrs{Privileged: true}), 2<<12+numberAt)) },
		"ReadAt of several pages": func() ([]uint64, error) { p := make([]byte, 2<<12); err := ep.ReadAt(p, 1<<12); return numbers(p), err },
		"ReadAt of part of a page": func() ([]uint64, error) {
			p := make([]byte, 24)
			err := ep.ReadAt(p, 3<<12)
			return one(binary.LittleEndian.Uint64(p[numberAt:]), err)
		},
		"ReadVec": func() ([]uint64, error) {
			var a, b [8]byte
			err := ep.ReadVec([]soft.Vec{{IOVA: numberAt, Buf: a[:]}, {IOVA: 3<<12 + numberAt, Buf: b[:]}})
			return []uint64{binary.LittleEndian.Uint64(a[:]), binary.LittleEndian.Uint64(b[:])}, err
		},
		"Map": func() ([]uint64, error) {
			m, err := ep.Map(0, all, false, nil)
			defer m.Release()
			var n []uint64
			for _, s := range m.Segments {
				n = append(n, numbers(s)...)
			}
			return n, err
		},
	}
	if withATS {
		// A device with an ATC would drop an invalidated translation. This endpoint requests the
		// translation each time.
		paths["ATS"] = func() ([]uint64, error) {
			tr, err := ep.Translate(0, false)
			if err != nil {
				return nil, err
			}
			return nil, ep.ReadTranslated(make([]byte, 8), tr.Addr+numberAt)
		}
	}
	return paths
}

// The guest changes leaves or tables of a mapping and invalidates them while endpoints use every
// path. No read returns data older than the last invalidation that completed before the read. No
// write reaches a page that is no longer mapped.
func TestNoDMAUsesAStaleMapping(t *testing.T) {
	const (
		asid   = 1 << 48
		pages  = (stressPages - 1) << 12 // NUM of a range
		tg4K   = 1 << 10
		leaf   = 1
		moves  = 500
		intact = 0x1d1e
	)
	table := func(level int) func(r *rig, version uint64) {
		return func(r *rig, version uint64) {
			at := guestmem.GPA(0x10000)
			if level > 1 {
				at = stressTable(level-1, 0)
			}
			r.guest.SetWords(at, uint64(stressTable(level, version))|3)
		}
	}
	leaves := func(r *rig, version uint64) {
		for page := range uint64(stressPages) {
			r.guest.SetWords(stressTable(3, 0)+gpa(8*page), uint64(stressPage(version, page))|pageRW)
		}
	}
	for _, c := range []struct {
		name string
		move func(r *rig, version uint64)
		cmds []smmuv3.Command
	}{
		{"leaves, TLBI_NH_VA with Leaf = 1", leaves, []smmuv3.Command{{0x12 | asid | pages, tg4K | leaf}}},
		{"a table of level 3, TLBI_NH_VA", table(3), []smmuv3.Command{{0x12 | asid | pages, tg4K}}},
		{"a table of level 2, TLBI_NH_VA", table(2), []smmuv3.Command{
			{0x12 | asid, 0}, {0x12 | asid, 1 << 12}, {0x12 | asid, 2 << 12}, {0x12 | asid, 3 << 12},
		}},
		{"a table of level 1, TLBI_NH_VAA", table(1), []smmuv3.Command{{0x13 | pages, tg4K}}},
		{"a table of level 3, TLBI_NH_ASID", table(3), []smmuv3.Command{{0x11 | asid}}},
		{"a table of level 2, TLBI_NSNH_ALL", table(2), []smmuv3.Command{{0x30}}},
	} {
		for kind, stage := range map[string]bridge.GuestStage{
			"stage 1": atsCD, "nested": stage2(bridge.TranslateNested, s2DW2, 0x6000_0000),
		} {
			t.Run(c.name+"/"+kind, func(t *testing.T) {
				mem := newRAM(t)
				r := newStressRig(t, mem, stage)
				r.ep.EnableATS(soft.ATS{})
				var current atomic.Uint64 // count of moves
				paths := stressReads(r.ep, kind == "stage 1")
				stopReads := repeat(3, func() bool {
					for path, read := range paths {
						before := current.Load()
						got, err := read()
						after := current.Load()
						for _, n := range got {
							// Moves before+1 to after+1 are in flight.
							if !assert.LessOrEqual(t, (n-before)%stressVersions, after+1-before, "stale: %s", path) {
								return false
							}
						}
						if !assert.NoError(t, err, path) {
							return false
						}
					}
					return true
				})
				data := make([]byte, 8)
				stopWrites := repeat(1, func() bool {
					return assert.NoError(t, r.ep.Store(writeAt, 8, 1)) &&
						assert.NoError(t, r.ep.WriteAt(data, 1<<12+writeAt))
				})
				for k := uint64(1); k <= moves; k++ {
					version, old := k%stressVersions, (k-1)%stressVersions
					for page := range uint64(2) {
						w := mem.Words(stressPage(version, page)+writeAt, 1)[0]
						if k > stressVersions && !assert.EqualValues(t, intact, w, "written when it was not mapped") {
							break
						}
					}
					c.move(r, version)
					r.invalidate(c.cmds...)
					current.Store(k)
					for page := range uint64(2) {
						mem.SetWords(stressPage(old, page)+writeAt, intact)
					}
				}
				stopReads()
				stopWrites()
			})
		}
	}
}

package soft_test

import (
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// gate blocks one access, after the read at its address.
type gate struct {
	at   atomic.Uint64
	open chan struct{}
}

func (g *gate) pass(at guestmem.GPA) {
	if g.at.CompareAndSwap(uint64(at), ^uint64(0)) {
		<-g.open
	}
}

// gatedFake and gatedRAM are memory with a gate: without slices, and with slices.
type gatedFake struct {
	*guestmem.Fake
	gate *gate
}

type gatedRAM struct {
	*ram
	gate *gate
}

func (m gatedFake) ReadAt(p []byte, at guestmem.GPA) error {
	err := m.Fake.ReadAt(p, at)
	m.gate.pass(at)
	return err
}

func (m gatedRAM) ReadAt(p []byte, at guestmem.GPA) error {
	err := m.ram.ReadAt(p, at)
	m.gate.pass(at)
	return err
}

func (m gatedRAM) Slice(at guestmem.GPA, n int, write bool) ([]byte, error) {
	mem, err := m.ram.Slice(at, n, write)
	if uint64(at) == m.gate.at.Load() {
		mem = slices.Clone(mem) // the read returns the old content
	}
	m.gate.pass(at)
	return mem, err
}

// onGates runs a test in a bubble on both kinds of memory.
func onGates(t *testing.T, test func(t *testing.T, r *rig, g *gate)) {
	onGatesAs(t, soft.DefaultIDs(), test)
}

// onGatesAs runs a test as onGates does, with an SMMU of these ID registers.
func onGatesAs(t *testing.T, ids smmuv3.IDRegs, test func(t *testing.T, r *rig, g *gate)) {
	for _, kind := range []string{"copied", "sliced"} {
		t.Run(kind, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &gate{open: make(chan struct{})}
				if kind == "copied" {
					fake := new(guestmem.Fake)
					r := newRig(t, soft.Config{Memory: gatedFake{fake, g}, IDs: ids})
					r.guest = fake
					test(t, r, g)
				} else {
					m := newRAM(t)
					r := newRig(t, soft.Config{Memory: gatedRAM{m, g}, IDs: ids})
					r.guest = m
					test(t, r, g)
				}
			})
		})
	}
}

// start runs f in a goroutine and reports whether it returned by itself.
func start(f func()) *atomic.Bool {
	done := new(atomic.Bool)
	go func() {
		f()
		done.Store(true)
	}()
	synctest.Wait()
	return done
}

// §3.21.1, §4.7.3: an invalidation completes when all DMA that may use the invalidated entries has
// completed. New DMA does not wait for the invalidation.
func TestInvalidationsWaitForInFlightDMA(t *testing.T) {
	for name, invalidate := range map[string]func(r *rig){
		"TLBI_NH_ALL":  func(r *rig) { r.invalidate(smmuv3.Command{0x10}) },
		"TLBI_NH_ASID": func(r *rig) { r.invalidate(smmuv3.Command{0x11 | 1<<48}) },
		"TLBI_NH_VA":   func(r *rig) { r.invalidate(smmuv3.Command{0x12 | 1<<48}) },
		"TLBI_NH_VAA":  func(r *rig) { r.invalidate(smmuv3.Command{0x13}) },
		"CFGI_CD":      func(r *rig) { r.invalidate(smmuv3.Command{0x42_00000005}) },
		"CFGI_CD_ALL":  func(r *rig) { r.invalidate(smmuv3.Command{0x42_00000006}) },
		"Bind":         func(r *rig) { r.bind(bridge.GuestStage{Disposition: bridge.Bypass}) },
		"Stream.Close": func(r *rig) { assert.NoError(r.t, r.stream.Close()) },
		"Host.Close":   func(r *rig) { assert.NoError(r.t, r.host.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			onGates(t, func(t *testing.T, r *rig, g *gate) {
				r.map4K(cd4K, 0x5000_0000|pageRW, 0x6000_0000|pageRW)
				r.bind(oneCD)
				// The second invalidation changes the phase of the sections in the other direction.
				for range 2 {
					g.at.Store(0x5000_0010)
					dma := start(func() { _, _ = word(r.ep, 0x10) })
					require.False(t, dma.Load())
					invalidated := start(func() { invalidate(r) })
					assert.False(t, invalidated.Load(), "DMA is in flight")
					_, _ = word(r.ep, 0x1010) // returns, although another DMA is in flight

					g.open <- struct{}{}
					synctest.Wait()
					assert.True(t, dma.Load())
					for !invalidated.Load() {
						synctest.Wait()
						sleep()
					}
					if strings.HasSuffix(name, "Close") {
						return
					}
					r.bind(oneCD)
				}
			})
		})
	}
}

// A walk reads a descriptor, the guest changes and invalidates the descriptor, and the walk ends.
// The walk inserts nothing into the TLB. With known, the TLB has held a page of this size before.
func TestOvertakenWalkInsertsNothing(t *testing.T) {
	for name, cmd := range map[string]smmuv3.Command{
		"TLBI_NH_ALL":  {0x10},
		"TLBI_NH_ASID": {0x11 | 1<<48},
		"TLBI_NH_VA":   {0x12 | 1<<48},
		"TLBI_NH_VAA":  {0x13},
		"range":        {0x12 | 1<<48 | 1<<12, 1 << 10},
	} {
		for _, known := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				onGates(t, func(t *testing.T, r *rig, g *gate) {
					leaf := r.map4K(cd4K, 0x5000_0000|pageRW, 0x6000_0000|pageRW)
					r.guest.SetWords(0x5000_0010, 0x01d)
					r.guest.SetWords(0x6000_0010, 0x2e3)
					r.bind(oneCD)
					if known {
						_, err := word(r.ep, 0x1010)
						require.NoError(t, err)
					}

					g.at.Store(uint64(leaf))
					dma := start(func() {
						got, err := word(r.ep, 0x10)
						assert.NoError(t, err)
						assert.EqualValues(t, 0x01d, got, "the walk began before the invalidation")
					})
					require.False(t, dma.Load())
					r.guest.SetWords(leaf, 0x6000_0000|pageRW)
					invalidated := start(func() { r.invalidate(cmd) })
					assert.False(t, invalidated.Load())
					g.open <- struct{}{}
					for !invalidated.Load() {
						sleep()
					}

					for range 2 {
						got, err := word(r.ep, 0x10)
						require.NoError(t, err)
						assert.EqualValues(t, 0x2e3, got)
					}
				})
			})
		}
	}
}

// The same holds for stage 2, alone and at the end of a nested walk.
func TestOvertakenWalkOfStage2InsertsNothing(t *testing.T) {
	const (
		s2At = 0x8_0000 // 25 bits of IPA: 16 tables at level 3
		ipa  = 0x10_0000
		leaf = s2At + ipa>>12*8
	)
	s2ipa, s12, nsnh := smmuv3.Command{0x2a, ipa}, smmuv3.Command{0x28}, smmuv3.Command{0x30}
	for name, c := range map[string]struct {
		d    bridge.Disposition
		iova uint64
		cmds []smmuv3.Command
	}{
		"alone, TLBI_S2_IPA":                  {bridge.TranslateS2, ipa, []smmuv3.Command{s2ipa}},
		"alone, TLBI_S2_IPA of a range":       {bridge.TranslateS2, ipa, []smmuv3.Command{{0x2a | 3<<12, ipa - 0x1000 | 1<<10}}},
		"alone, TLBI_S12_VMALL":               {bridge.TranslateS2, ipa, []smmuv3.Command{s12}},
		"alone, TLBI_NSNH_ALL":                {bridge.TranslateS2, ipa, []smmuv3.Command{nsnh}},
		"nested, TLBI_S2_IPA and TLBI_NH_ALL": {bridge.TranslateNested, 0, []smmuv3.Command{s2ipa, {0x10}}},
		"nested, TLBI_S2_IPA and TLBI_NH_VAA": {bridge.TranslateNested, 0, []smmuv3.Command{s2ipa, {0x13}}},
		"nested, TLBI_S12_VMALL":              {bridge.TranslateNested, 0, []smmuv3.Command{s12}},
	} {
		t.Run(name, func(t *testing.T) {
			onGatesAs(t, soft.Stage2IDs(), func(t *testing.T, r *rig, g *gate) {
				r.map4K(cd4K, ipa|pageRW)
				for page := range guestmem.GPA(0x80) {
					r.guest.SetWords(s2At+8*page, uint64(page)<<12|0x7ff)
				}
				r.guest.SetWords(leaf, 0x5000_07ff)
				r.guest.SetWords(0x5000_0010, 0x01d)
				r.guest.SetWords(0x6000_0010, 0x2e3)
				r.bind(stage2(c.d, 0x040d_00e7_0000_0000, s2At))

				g.at.Store(leaf)
				dma := start(func() {
					got, err := word(r.ep, c.iova+0x10)
					assert.NoError(t, err)
					assert.EqualValues(t, 0x01d, got, "the walk began before the invalidation")
				})
				require.False(t, dma.Load())
				r.guest.SetWords(leaf, 0x6000_07ff)
				invalidated := start(func() { r.invalidate(c.cmds...) })
				assert.False(t, invalidated.Load(), "DMA is in flight")
				g.open <- struct{}{}
				for !invalidated.Load() {
					sleep()
				}
				for range 2 {
					got, err := word(r.ep, c.iova+0x10)
					require.NoError(t, err)
					assert.EqualValues(t, 0x2e3, got)
				}
			})
		})
	}
}

// The same holds for a CD.
func TestOvertakenCDFetchIsNotCached(t *testing.T) {
	for name, cmd := range map[string]smmuv3.Command{
		"CFGI_CD":     {0x42_00000005},
		"CFGI_CD_ALL": {0x42_00000006},
	} {
		t.Run(name, func(t *testing.T) {
			onGates(t, func(t *testing.T, r *rig, g *gate) {
				r.map4K(cd4K, 0x5000_0000|pageRW)
				r.bind(oneCD)
				g.at.Store(cdAt)
				dma := start(func() { _, _ = word(r.ep, 0x10) })
				require.False(t, dma.Load())
				r.guest.SetWords(cdAt, 0)
				invalidated := start(func() { r.invalidate(cmd) })
				assert.False(t, invalidated.Load())
				g.open <- struct{}{}
				for !invalidated.Load() {
					sleep()
				}
				_, err := word(r.ep, 0x10)
				assert.ErrorIs(t, err, soft.ErrFault)
			})
		})
	}
}

// A transaction reads a CD. The guest then replaces the CD, and invalidates the CD and its ASID in
// one batch. The transaction walks the tables of the old CD, and inserts nothing into the TLB.
func TestWalkByAnOvertakenCDInsertsNothing(t *testing.T) {
	cfgi := smmuv3.Command{0x42_00000005}
	for name, tlbi := range map[string]smmuv3.Command{
		"TLBI_NH_ALL":          {0x10},
		"TLBI_NH_ASID":         {0x11 | 1<<48},
		"TLBI_NH_VA, Leaf = 0": {0x12 | 1<<48},
		"TLBI_NH_VA, Leaf = 1": {0x12 | 1<<48, 1},
		"TLBI_NH_VAA":          {0x13},
	} {
		t.Run(name, func(t *testing.T) {
			onGates(t, func(t *testing.T, r *rig, g *gate) {
				r.map4K(cd4K, 0x5000_0000|pageRW)
				r.guest.SetWords(0x5000_0000, 0x0bad)
				r.guest.SetWords(0x6000_0000, 0x600d)
				r.bind(oneCD)

				g.at.Store(cdAt)
				dma := start(func() { _, _ = word(r.ep, 0) })
				require.False(t, dma.Load())
				r.guest.SetWords(0x80000, 0x6000_0000|pageRW)
				r.guest.SetWords(0x70000, 0x80003)
				r.guest.SetWords(0x60000, 0x70003)
				r.guest.SetWords(0x50000, 0x60003)
				r.guest.SetWords(cdAt, cd4K, 0x50000)
				invalidated := start(func() { r.invalidate(cfgi, tlbi) })
				assert.False(t, invalidated.Load(), "DMA is in flight")
				g.open <- struct{}{}
				for !invalidated.Load() {
					synctest.Wait()
					sleep()
				}
				assert.True(t, dma.Load())
				r.wantWord(0x600d, 0)
			})
		})
	}
}

// Endpoints read while the guest moves a page: page k holds k. A read returns nothing older than
// the last invalidation that completed before the read began.
func TestNoStaleTranslationAfterInvalidation(t *testing.T) {
	const pages, moves = 64, 3000
	for name, cmd := range map[string]smmuv3.Command{
		"TLBI_NH_ASID": {0x11 | 1<<48},
		"TLBI_NH_VA":   {0x12 | 1<<48},
		"TLBI_NH_VAA":  {0x13},
	} {
		for _, kind := range []string{"copied", "sliced"} {
			t.Run(name+"/"+kind, func(t *testing.T) {
				r := newRig(t, soft.Config{TLBEntries: 16})
				r.guest = r.mem
				if kind == "sliced" {
					mem := newRAM(t)
					r = newRig(t, soft.Config{Memory: mem, TLBEntries: 16})
					r.guest = mem
				}
				leaf := r.map4K(cd4K, 0x5000_0000|pageRW)
				r.bind(oneCD)
				for k := range uint64(pages) {
					r.guest.SetWords(gpa(0x5000_0010+k<<12), k)
				}
				neverStale(t, pages, moves, func() (uint64, error) { return word(r.ep, 0x10) }, func(k uint64) {
					r.guest.SetWords(leaf, 0x5000_0000+k%pages<<12|pageRW)
					r.invalidate(cmd)
				})
			})
		}
	}
}

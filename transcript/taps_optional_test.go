package transcript

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/bridge/record"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// optional has a test for each optional interface of a host.
var optional = map[string]func(bridge.Host) bool{
	"PageRequester": func(h bridge.Host) bool { _, ok := h.(bridge.PageRequester); return ok },
	"Staller":       func(h bridge.Host) bool { _, ok := h.(bridge.Staller); return ok },
	"STERefetcher":  func(h bridge.Host) bool { _, ok := h.(bridge.STERefetcher); return ok },
}

func TestEveryOptionalInterfaceIsTested(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "../bridge/optional.go", nil, 0)
	require.NoError(t, err)
	var declared []string
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.TypeSpec); ok {
			if _, ok := spec.Type.(*ast.InterfaceType); ok {
				declared = append(declared, spec.Name.Name)
			}
		}
		return true
	})
	var tested []string
	for name := range optional {
		tested = append(tested, name)
	}
	assert.ElementsMatch(t, declared, tested)
}

// Every combination of optional interfaces passes a tap.
func TestTapsImplementTheInterfacesOfTheirHosts(t *testing.T) {
	type (
		host  = bridge.Host
		pages = bridge.PageRequester
		stall = bridge.Staller
		fetch = bridge.STERefetcher
	)
	h := record.NewRefetcher(bridge.Capabilities{IDs: guestIDs})
	for _, inner := range []bridge.Host{
		&struct{ host }{h},
		&struct {
			host
			pages
		}{h, h},
		&struct {
			host
			stall
		}{h, h},
		&struct {
			host
			fetch
		}{h, h},
		&struct {
			host
			pages
			stall
		}{h, h, h},
		&struct {
			host
			pages
			fetch
		}{h, h, h},
		&struct {
			host
			stall
			fetch
		}{h, h, h},
		h,
	} {
		t.Run(fmt.Sprintf("%T", inner), func(t *testing.T) {
			g := newGuest(t, Options{})
			tap, n := g.tap(inner)
			assert.Zero(t, n)
			again, _ := g.tap(inner)
			assert.Same(t, tap, again)
			for name, has := range optional {
				assert.Equal(t, has(inner), has(tap), name)
			}
			caps, err := tap.Capabilities()
			require.NoError(t, err)
			assert.Equal(t, guestIDs, caps.IDs)
		})
	}
}

func TestTapsRecordOptionalCalls(t *testing.T) {
	g := newGuest(t, Options{})
	h := record.NewRefetcher(bridge.Capabilities{IDs: guestIDs})
	_, _ = g.tap(g.host)
	tap, n := g.tap(h)
	require.EqualValues(t, 1, n)
	response := bridge.PageResponse{StreamID: 1, SubstreamID: 2, SSV: true, PRGIndex: 3, Response: smmuv3.PRGInvalid}
	var met smmuv3.PageRequest

	pages := tap.(bridge.PageRequester)
	require.NoError(t, pages.PageRequests(func(q smmuv3.PageRequest) { met = q }))
	h.Request(smmuv3.PageRequest{1, 2})
	assert.Equal(t, smmuv3.PageRequest{1, 2}, met)
	require.NoError(t, pages.Respond(response))
	stalls := tap.(bridge.Staller)
	h.FailOp(record.Resume, bridge.ErrGone)
	require.ErrorIs(t, stalls.Resume(1, 2, bridge.TerminateAbort), bridge.ErrGone)
	require.NoError(t, stalls.TerminateStalled(1))
	refetch := tap.(bridge.STERefetcher)
	refetch.SetSTERefetch(func(sid smmuv3.StreamID) bool { return sid == 5 })
	assert.True(t, h.Refetch(5))
	assert.False(t, h.Refetch(6))
	refetch.SetSTERefetch(nil)
	assert.False(t, h.Refetch(5))

	tr, err := Read(bytes.NewReader(g.closed()))
	require.NoError(t, err)
	want := []Body{
		&PageFault{1, smmuv3.PageRequest{1, 2}}, &HostRespond{response, nil},
		&HostResume{1, 2, bridge.TerminateAbort, &Error{bridge.ErrGone.Error(), 1 << 3}}, &HostTerminate{1, nil},
		&HostRefetcher{1, true}, &Refetch{1, 5}, &Refetched{5, true}, &Refetch{1, 6}, &Refetched{6, false},
		&HostRefetcher{1, false},
	}
	var got []Body
	for _, e := range tr.Entries[:len(want)] {
		got = append(got, e.Body)
	}
	assert.Equal(t, want, got)
}

// unfetched makes an STE of the guest unreadable for a while. ask requests another read of the STE
// for a transaction.
func unfetched(g *guest, h bridge.Host, ask func()) {
	require.NoError(g, g.Attach(0x10, h, "endpoint"))
	g.ste(0x10, 0x40000b, 0xc00000b4) // V, Config = S1, S1ContextPtr
	g.up()
	g.mem.FailReads(guestmem.Range{GPA: strtabAt, Len: 0x4000}, nil)
	g.run(cfgiSTE(0x10), cmdSync)
	for range 3 {
		ask()
	}
	g.mem.Heal()
	ask()
	g.poll("the stage is bound", func() bool {
		stage, _ := g.Device().Stage(0x10)
		return stage.Disposition == bridge.Translate
	})
	g.run(cfgiSTE(0x10), cmdSync)
}

// In the replay, a host requests another read of an STE exactly if the recorded host did.
func TestReplayOfSTERefetches(t *testing.T) {
	for name, meet := range map[string]func(*guest){
		"refetcher": func(g *guest) {
			h := record.NewRefetcher(bridge.Capabilities{IDs: guestIDs})
			unfetched(g, h, func() {
				if !h.Refetch(0x10) {
					h.Emit(smmuv3.NewEvent(smmuv3.FSTEFetch, 0x10))
				}
			})
		},
		"events": func(g *guest) {
			unfetched(g, g.host, func() {
				g.host.Emit(smmuv3.NewEvent(smmuv3.FSTEFetch, 0x10))
				_, err := g.Save() // completes the read
				require.NoError(g, err)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			tr := recorded(t, meet)
			require.NoError(t, Replay(t.Context(), tr))
			require.NoError(t, ReplayRestored(t.Context(), tr))
			asked := 0
			for i, e := range tr.Entries {
				if _, ok := e.Body.(*Refetch); ok {
					asked++
					tr.Entries[i].Body = &Note{"gone"}
				}
			}
			if name == "events" {
				assert.Zero(t, asked)
				return
			}
			assert.Equal(t, 4, asked)
			var d *Difference
			require.ErrorAs(t, replayWithin(t.Context(), tr, 100*time.Millisecond, false), &d, "without the requests the replay differs")
		})
	}
}

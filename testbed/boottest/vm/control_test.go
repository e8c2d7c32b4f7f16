package vm

import (
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
)

// stages is a Sink that keeps the stages.
type stages struct{ names []string }

func (s *stages) Stage(name string)   { s.names = append(s.names, name) }
func (s *stages) Line(string, string) {}

func (s *stages) Transcript([]byte) error { return nil }

func conversation(t *testing.T, says string) (*control, *report.Report, *stages, int) {
	t.Helper()
	r := &report.Report{Disks: []report.Disk{{Serial: guest.Plain, StreamID: 0x10}}}
	s, rogues := &stages{}, 0
	c := newControl(s, r, func() { rogues++ })
	n, err := c.Write([]byte(says))
	require.NoError(t, err)
	require.Equal(t, len(says), n)
	c.rogueRun.Wait()
	return c, r, s, rogues
}

func TestGuestIsAskedToRebootAsOftenAsTheBootWants(t *testing.T) {
	s := &stages{}
	c := newControl(s, &report.Report{}, func() {})
	c.reboots = 1
	for _, want := range []string{"again\n", "done\n"} {
		_, err := c.Write([]byte(`{"found":true}` + "\n"))
		require.NoError(t, err)
		answer := make([]byte, 16)
		n, err := c.Read(answer)
		require.NoError(t, err)
		assert.Equal(t, want, string(answer[:n]))
	}
	assert.Equal(t, []string{"the guest reboots through the firmware"}, s.names)
}

func TestControlFollowsTheGuest(t *testing.T) {
	c, r, s, rogues := conversation(t, `{"hello":{"release":"6.1.0","version":"#1","page_size":4096,"cpus":2}}
{"stage":"disk plain is tested"}
{"disk":{"serial":"plain","name":"vda","iommu_type":"DMA","written":8,"read":7,"verified":6}}
{"up":{"probe":["ias 48-bit"]}}
{"faults":{"lines":["event 0x10 received:"]}}
`)
	assert.Equal(t, report.Guest{Release: "6.1.0", Version: "#1", PageSize: 4096, CPUs: 2}, r.Guest)
	assert.Equal(t, report.Disk{Serial: "plain", StreamID: 0x10, Name: "vda", IOMMU: "DMA", Written: 8, Read: 7, Verified: 6}, r.Disks[0])
	assert.Equal(t, []string{"ias 48-bit"}, r.Probe)
	assert.Equal(t, []string{"event 0x10 received:"}, r.Fault.Kernel)
	assert.Equal(t, 1, rogues)
	assert.True(t, c.through)
	assert.Empty(t, r.Error)
	assert.Contains(t, s.names, "the guest: disk plain is tested")

	answer := make([]byte, 16)
	n, err := c.Read(answer)
	require.NoError(t, err)
	assert.Equal(t, "done\n", string(answer[:n]))
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
	_, err = c.Read(answer)
	assert.Equal(t, io.EOF, err)
}

func TestControlTakesAnythingFromTheGuest(t *testing.T) {
	for _, tt := range []struct{ name, says, fails string }{
		{"no JSON", "Kernel panic\n", `malformed message: "Kernel panic"`},
		{"null", "null\n", ""},
		{"nothing known", `{"x":1}` + "\n", ""},
		{"a disk that is not there", `{"disk":{"serial":"other","written":1}}` + "\n", ""},
		{"an error", `{"error":"no disk"}` + "\n", "gave up: no disk"},
		{"a message without an end", strings.Repeat("x", 4<<20), "malformed message"},
		{"up, again and again", strings.Repeat(`{"up":{"probe":[]}}`+"\n", 1000), ""},
		{"stages without an end", strings.Repeat(`{"stage":"x"}`+"\n", 100000), ""},
		{"deep nesting", strings.Repeat("[", 60000) + "\n", "malformed message"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, r, s, rogues := conversation(t, tt.says)
			if tt.fails == "" {
				assert.Empty(t, r.Error)
			} else {
				assert.Contains(t, r.Error, tt.fails)
			}
			assert.LessOrEqual(t, rogues, 1)
			assert.LessOrEqual(t, len(s.names), maxMessages)
			assert.LessOrEqual(t, len(r.Error), 400)
		})
	}
}

func FuzzControl(f *testing.F) {
	f.Add([]byte(`{"up":{"probe":["x"]}}` + "\n" + `{"up":{}}` + "\n"))
	f.Add([]byte("\n\n{}\n"))
	f.Fuzz(func(t *testing.T, says []byte) { conversation(t, string(says)) })
}

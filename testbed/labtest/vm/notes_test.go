//go:build linux && (amd64 || arm64)

package vm

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
)

// Commands: TLBI_NH_VA, CFGI_STE, SYNC.
var (
	tlbi = smmuv3.Command{0x12}
	stes = smmuv3.Command{0x03}
	done = smmuv3.Command{0x46}
)

func TestBatchesOfOneCountOnlyIfTheGuestGaveMore(t *testing.T) {
	for _, tt := range []struct {
		name     string
		commands []smmuv3.Command
		batches  []int
		want     cost
	}{
		{"one", []smmuv3.Command{tlbi}, []int{1}, cost{syncs: 1, commands: 1}},
		{"many at once", []smmuv3.Command{tlbi, tlbi, tlbi}, []int{3}, cost{syncs: 1, commands: 3}},
		{"one batch each", []smmuv3.Command{tlbi, tlbi}, []int{1, 1}, cost{syncs: 1, commands: 2, alone: 2}},
		{"one, and a CFGI_STE outside a batch", []smmuv3.Command{stes, tlbi}, []int{1}, cost{syncs: 1, commands: 1}},
		{"none", nil, nil, cost{syncs: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNotes()
			for _, c := range tt.commands {
				n.command(c, smmuv3.CERROR_NONE)
			}
			for _, size := range tt.batches {
				n.batch(size)
			}
			n.command(done, smmuv3.CERROR_NONE)
			assert.Equal(t, tt.want, n.spent())
		})
	}
}

func TestNotesAreBounded(t *testing.T) {
	n := newNotes()
	for i := range 100 {
		n.bind(smmuv3.StreamID(i%16), bridge.GuestStage{}, errors.New("no"))
		n.bind(virtioID, bridge.GuestStage{}, nil)
		n.event(smmuv3.Event{0x10}, vsmmu.Recorded)
		n.place(smmuv3.StreamID(i), true, errors.New("no"))
	}
	n.command(smmuv3.Command{0xff}, smmuv3.CERROR_ILL)
	end := n.end()
	assert.Len(t, end.Events, maxEvents)
	assert.Len(t, end.Streams, maxStreams)
	assert.Len(t, end.Places, maxPlaces)
	assert.Equal(t, machine.Place{StreamID: 1, Attached: true, Error: "no"}, end.Places[1])
	for _, s := range end.Streams {
		assert.LessOrEqual(t, len(s.Binds), maxBinds)
	}
	assert.Equal(t, "abort: no", end.Streams[0].Binds[0])
	assert.Len(t, end.Commands, 1)
}

func TestControlHandlesAnyMessageOfTheGuest(t *testing.T) {
	n := newNotes()
	var told []machine.Guest
	c := newControl(n, func(g machine.Guest) { told = append(told, g) })
	asked := uint64(5)
	c.requests = func() uint64 { return asked }
	var wanted []string
	c.do = func(what string) error {
		wanted = append(wanted, what)
		if what != guest.AskPort {
			return errors.New("no\nsuch thing")
		}
		return nil
	}
	say := func(line string) {
		t.Helper()
		_, err := io.WriteString(c, line+"\n")
		require.NoError(t, err)
	}

	c.begin(2)
	say(`{"hello":{"release":"6.1"}}`)
	hear := func() string {
		t.Helper()
		answer := make([]byte, 80)
		read, err := c.Read(answer)
		require.NoError(t, err)
		return string(answer[:read])
	}
	assert.Equal(t, "2\n", hear())

	say(`{"ask":"add a root port before that of the NVMe disk"}`)
	assert.Equal(t, "done\n", hear())
	say(`{"ask":"the moon"}`)
	assert.Equal(t, "no; such thing\n", hear())
	assert.Equal(t, []string{guest.AskPort, "the moon"}, wanted)

	say(`{"begin":"a read"}`)
	asked += 3
	n.command(tlbi, smmuv3.CERROR_NONE)
	n.command(done, smmuv3.CERROR_NONE)
	say(`{"read":{"iommu_type":"DMA","bytes":8,"seconds":2}}`)
	assert.Equal(t, &machine.Read{
		LabRead: guest.LabRead{IOMMU: "DMA", Bytes: 8, Seconds: 2}, Syncs: 1, Commands: 1, Ioctls: 3,
	}, told[len(told)-1].Read)

	assert.Equal(t, "the guest sent no end", c.ended())
	say(`{"end":"reboot"}`)
	assert.Equal(t, guest.EndReboot, c.ended())
	say(`{`)
	assert.Contains(t, c.ended(), `the guest's init ended early: malformed message "{"`)

	for range 2 * maxMessages {
		say(`{"hello":{}}`)
	}
	assert.LessOrEqual(t, len(told), maxMessages+1)
	require.NoError(t, c.Close())
	require.NoError(t, c.Close())
}

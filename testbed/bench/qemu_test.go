package main

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/bridge/soft"
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/internal/mix"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
	"github.com/go-vsmmu/vsmmuv3/vsmmu"
	"github.com/go-vsmmu/vsmmuv3/vsmmu/idr"
)

// machine answers qtest commands like QEMU, with our SMMU in place of QEMU's.
type machine struct {
	ram    *guestmem.Slots
	smmu   *vsmmu.Device
	dma    *soft.Endpoint
	edu    [4]uint64
	buffer [8]byte
	reads  int
}

func newMachine(t *testing.T) *machine {
	m := &machine{ram: new(guestmem.Slots), dma: soft.NewEndpoint()}
	require.NoError(t, m.ram.Add(guestmem.Slot{GPA: ramBase, Mem: make([]byte, 64<<20)}))
	host, err := soft.New(soft.Config{Memory: m.ram})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, host.Close()) })
	caps, err := host.Capabilities()
	require.NoError(t, err)
	ids, err := idr.Derive(idr.Policy{smmuv3.CMDQS: mix.Log2Size}, caps)
	require.NoError(t, err)
	m.smmu, err = vsmmu.New(vsmmu.Config{IDs: ids.IDs, Memory: m.ram, Interrupts: silence{}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.smmu.Close()) })
	require.NoError(t, m.smmu.Attach(mix.StreamID, host, m.dma))
	return m
}

type silence struct{}

func (silence) Pulse(vsmmu.Line) error               { return nil }
func (silence) SignalMSI(guestmem.GPA, uint32) error { return nil }

func (m *machine) serve(r io.Reader, w io.Writer) {
	commands := bufio.NewReader(r)
	for {
		line, err := commands.ReadString('\n')
		if err != nil {
			return
		}
		var op, data string
		var addr, v uint64
		n, _ := fmt.Sscanf(line, "%s %v %v %s", &op, &addr, &v, &data)
		answer := "OK"
		switch {
		case op == "b64write" && n == 4:
			raw, err := base64.StdEncoding.DecodeString(data)
			if err != nil || uint64(len(raw)) != v || m.ram.WriteAt(raw, guestmem.GPA(addr)) != nil {
				answer = "FAIL"
			}
		case op == "writel" && n == 3:
			m.store(addr, 4, v)
		case op == "writeq" && n == 3:
			m.store(addr, 8, v)
		case op == "readl" && n == 2:
			answer = fmt.Sprintf("OK 0x%016x", m.load(addr, 4))
		case op == "readq" && n == 2:
			answer = fmt.Sprintf("OK 0x%016x", m.load(addr, 8))
		default:
			answer = "FAIL Unknown command"
		}
		if _, err := io.WriteString(w, answer+"\n"); err != nil {
			return
		}
	}
}

func (m *machine) store(addr uint64, size int, v uint64) {
	switch {
	case addr >= smmuBase && addr < smmuBase+smmuv3.RegisterSpace:
		m.smmu.Store(addr-smmuBase, size, v)
		for m.smmu.Load(smmuv3.RegCR0, 4) != m.smmu.Load(smmuv3.RegCR0ACK, 4) {
			runtime.Gosched()
		}
		for m.smmu.Load(smmuv3.RegCMDQ_PROD, 4) != m.smmu.Load(smmuv3.RegCMDQ_CONS, 4) && m.smmu.Load(smmuv3.RegGERROR, 4) == 0 {
			runtime.Gosched()
		}
	case addr >= eduSource && addr <= eduCommand:
		m.edu[(addr-eduSource)/8] = v
		switch {
		case addr != eduCommand:
		case v == eduFromMemory && m.edu[1] == eduBuffer && m.edu[2] == 8:
			m.reads++
			_ = m.dma.ReadAt(m.buffer[:], m.edu[0])
		case v == eduToMemory && m.edu[0] == eduBuffer && m.edu[2] == 8:
			_ = m.dma.WriteAt(m.buffer[:], m.edu[1])
		}
		m.edu[3] = 0
	}
}

func (m *machine) load(addr uint64, size int) uint64 {
	switch {
	case addr >= smmuBase && addr < smmuBase+smmuv3.RegisterSpace:
		return m.smmu.Load(addr-smmuBase, size)
	case addr >= eduSource && addr <= eduCommand:
		return m.edu[(addr-eduSource)/8]
	}
	var p [8]byte
	_ = m.ram.ReadAt(p[:size], guestmem.GPA(addr))
	return binary.LittleEndian.Uint64(p[:])
}

// connected returns a peer that drives the machine.
func connected(t *testing.T, m *machine) *peer {
	commands, w := io.Pipe()
	r, answers := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.serve(commands, answers)
		answers.Close()
	}()
	t.Cleanup(func() { w.Close(); r.Close(); <-done })
	return &peer{qtest: newQtest(w, r)}
}

func TestPeerDrivesAnSMMU(t *testing.T) {
	m := newMachine(t)
	p := connected(t, m)
	var out bytes.Buffer
	times := p.measure(mix.All[:1], 1, &out)
	require.NoError(t, p.err)
	assert.Len(t, times, 3)
	for _, name := range []string{"vsmmu.Commands/SYNC", "vsmmu.CommandsSoft/0/SYNC", "vsmmu.CommandsSoft/256/SYNC"} {
		assert.Positive(t, times[name], name)
	}
	assert.Equal(t, peerTLB, m.reads)
	assert.Contains(t, out.String(), "256 held  SYNC")
}

func TestPeerWhoseSMMUFailsIsAnError(t *testing.T) {
	m := newMachine(t)
	p := connected(t, m)
	p.setUp()
	p.hold(1)
	require.NoError(t, p.err)
	p.write(ramBase+mix.Queue, []byte{0xff}) // no command
	p.consume(1)
	assert.ErrorContains(t, p.err, "CMDQ_CONS is 0x1000000") // CERROR_ILL
}

func TestQtestKeepsTheFirstError(t *testing.T) {
	for _, tt := range []struct{ answers, want string }{
		{"", "gave no answer"},
		{"FAIL Unknown command\nOK 0x1\n", "answered"},
		{"OK nonsense\nOK 0x1\n", "invalid syntax"},
	} {
		q := newQtest(io.Discard, strings.NewReader(tt.answers))
		assert.Zero(t, q.readl(0))
		assert.ErrorContains(t, q.err, tt.want)
		assert.Zero(t, q.readq(0), "after an error")
		q.writel(0, 0)
		assert.ErrorContains(t, q.err, tt.want)
	}
}

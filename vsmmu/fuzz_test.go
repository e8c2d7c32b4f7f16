package vsmmu

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// The corpora are in testdata/fuzz. The name of each seed is the boundary that it tests.

// small makes the guest's memory end at 16 MiB.
func (r *rig) small() {
	beyond := guestmem.Range{GPA: 1 << 24, Len: ^uint64(0)}
	r.mem.FailReads(beyond, nil)
	r.mem.FailWrites(beyond, nil)
}

// FuzzRegisters makes accesses of 12 bytes each: offset [16:0] and size [23:20] in the first four,
// then the value. After any of them, handshakes are answered, read-only bits are unchanged, and the
// device works after a reset.
func FuzzRegisters(f *testing.F) {
	f.Fuzz(func(t *testing.T, p []byte) {
		r := newRig(t)
		defer r.Close()
		r.small()
		r.ste(3, 0xb|cdAt)
		require.NoError(t, r.Attach(3, r.host, "disk"))
		for i := 0; len(p) >= 12 && i < 1000; i++ {
			at := binary.LittleEndian.Uint32(p)
			off, size := uint64(at&0x1ffff), int(at>>20&15)
			r.Store(off, size, binary.LittleEndian.Uint64(p[4:]))
			r.Load(off, size)
			p = p[12:]
		}
		r.idle()
		assert.Equal(t, r.r32(cr0), r.r32(cr0ack))
		assert.Equal(t, r.r32(irqCtrl), r.r32(irqAck))
		assert.Zero(t, r.r32(gbpa)>>31)
		assert.Equal(t, rigIDs.IDR[1], r.r32(4))
		assert.Zero(t, r.Stats().ServiceFailures, "the host never failed")

		require.NoError(t, r.Reset())
		r.setup()
		assert.Equal(t, translates, r.stage(3))
		r.run(cmdSync)
		r.idle()
		assert.Zero(t, r.gerror())
	})
}

// stages returns the stages of the SMMU that a byte of a fuzz target's input selects.
func stages(which byte) features {
	return [...]features{{}, {s2: true, vmid16: true}, {s2: true, noS1: true}, {s2: true}}[which&3]
}

// FuzzCommands fills a queue with commands, on an SMMU with ranges, and with ATS if it has stage 1
// only. The device consumes them up to the first illegal command. The commands that reach the host
// are legal and of a kind that package bridge promises.
func FuzzCommands(f *testing.F) {
	f.Fuzz(func(t *testing.T, which byte, p []byte) {
		has := stages(which)
		r := newRig(t, has.config, withRIL, func(c *Config) { c.IDs.Set(smmuv3.ATS, b2u(!has.s2)) })
		defer r.Close()
		r.small()
		if has.noS1 {
			r.ste(3, 0xd, 0, 0x040d_0059_0000_0003, 0x70_0000)
		} else {
			r.ste(3, 0xb|cdAt, 1<<28)
		}
		require.NoError(t, r.Attach(3, r.host, "disk"))
		require.NoError(t, r.Attach(200, r.host, "nic"))
		r.setup()
		require.True(t, r.stage(3).Disposition.Translates())
		r.host.Forget()
		var cmds []smmuv3.Command
		illegal := -1
		for ; len(p) >= 16 && len(cmds) < 256; p = p[16:] {
			c := smmuv3.LoadCommand(p)
			ids := r.Device.IDs()
			if illegal < 0 && c.Illegal(&ids) != nil {
				illegal = len(cmds)
			}
			if c.Opcode() == smmuv3.OpSync {
				c[1] = c[1]&0xfff | 0x500000 // no MSI into the queue
			}
			cmds = append(cmds, c)
		}
		r.w32(cmdqProd, r.put(cmds...))
		r.idle()
		if illegal >= 0 {
			assert.Equal(t, uint32(illegal)|1<<24, r.r32(cmdqCons))
			assert.Equal(t, uint32(1), r.gerror()&1)
		} else {
			assert.Equal(t, uint32(len(cmds)), r.r32(cmdqCons))
			assert.Zero(t, r.gerror()&1)
		}
		for _, call := range r.host.Forget() {
			for _, c := range call.Commands {
				ids := r.Device.IDs()
				assert.Nil(t, c.Illegal(&ids))
				assert.Contains(t, []smmuv3.Opcode{0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x28, 0x2a, 0x30, 0x40}, c.Opcode())
				if c.Opcode() < 0x10 || c.Opcode() == 0x40 {
					assert.Contains(t, []smmuv3.StreamID{3, 200}, c.StreamID())
				}
			}
		}
	})
}

// FuzzStreamTable sets STRTAB_BASE, STRTAB_BASE_CFG and CR2, with a table at 64 KiB. Every stream
// behaves like the model of the specification.
func FuzzStreamTable(f *testing.F) {
	sids := []smmuv3.StreamID{0, 1, 3, 63, 64, 255, 256, 1023, 0xffff}
	f.Fuzz(func(t *testing.T, which byte, base uint64, cfg, cr2 uint32, table []byte) {
		r := newRig(t, stages(which).config)
		defer r.Close()
		for _, sid := range sids {
			require.NoError(t, r.Attach(sid, r.host, sid))
		}
		base &= 0x40000000_000fffff // stay where there is memory
		m := newModel(r.mem, r.Device.IDs(), stages(which))
		m.reg[0x24], m.reg[0x88], m.reg[0x2c] = 1, cfg&0x307ff, cr2&2
		m.reg[0x80], m.reg[0x84] = uint32(base)&^0x3f, uint32(base>>32)
		for i := 0; i+8 <= len(table) && i < 1<<16; i += 8 {
			w := binary.LittleEndian.Uint64(table[i:])
			if word := i / 8 % 8; word != 2 && word != 3 { // where an STE has its stage 2
				w &^= 0x0fff_fff0_0000 // level-2 tables stay there too
			}
			r.mem.SetWords(0x10000+guestmem.GPA(i), w)
		}
		r.w64(0x80, base)
		r.w32(0x88, cfg)
		r.w32(0x2c, cr2)
		r.w32(cr0, 1)
		r.idle()
		for _, sid := range sids {
			assert.Equalf(t, m.decide(sid), r.stage(sid), "stream %v", sid)
		}
	})
}

// FuzzEvents takes one byte for each thing that happens to an event queue, and does it to the
// device and to its model.
func FuzzEvents(f *testing.F) {
	f.Fuzz(func(t *testing.T, size uint8, steps []byte) {
		p := newPair(t, features{})
		defer p.Close()
		require.NoError(t, p.Attach(3, p.host, "disk"))
		p.model.attach(3)
		p.store64(eventqBase, eventqAt|uint64(size))
		p.store(irqCtrl, 5)
		p.store(cr0, 4)
		for i, b := range steps[:min(len(steps), 1000)] {
			switch arg := uint32(b >> 3); b & 7 {
			case 0, 1, 2: // a few events, so that some are the same
				ev := fault(uint64(arg & 7))
				ev[1] |= uint64(arg>>4) << 31
				p.host.Emit(ev)
				p.idle()
				p.model.hostEvent(ev)
			case 3:
				p.store(eventqCons, p.r32(eventqProd))
			case 4:
				p.store(eventqCons, p.r32(eventqCons)+arg)
			case 5:
				p.store(cr0, arg&4)
			case 6:
				p.store(eventqProd, arg)
			case 7:
				p.model.queueBroken = arg&1 != 0
				p.mem.Heal()
				if p.model.queueBroken {
					p.mem.FailWrites(guestmem.Range{GPA: eventqAt &^ 0xffff, Len: 1 << 20}, nil)
				}
				p.store(gerrorn, p.r32(gerror))
			}
			for _, off := range []uint64{gerror, eventqProd, eventqCons} {
				require.Equalf(t, p.model.reg[off], p.r32(off), "register %#x after step %d", off, i)
			}
		}
		for addr, ev := range p.model.records {
			assert.Equal(t, ev[:], p.mem.Words(guestmem.GPA(addr), 4))
		}
		assert.Equal(t, p.model.pulses, p.irqs.take())
	})
}

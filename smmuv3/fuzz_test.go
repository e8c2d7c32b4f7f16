package smmuv3

import (
	"encoding/binary"
	"testing"
)

// idRegs returns ID registers of any bytes.
func idRegs(p []byte) (r IDRegs) {
	var words [32]byte
	copy(words[:], p)
	for i := range r.IDR {
		r.IDR[i] = binary.LittleEndian.Uint32(words[4*i:])
	}
	r.IIDR = binary.LittleEndian.Uint32(words[24:])
	r.AIDR = binary.LittleEndian.Uint32(words[28:])
	return r
}

// seedIDs returns the bytes of ID registers.
func seedIDs(r IDRegs) []byte {
	var p []byte
	for _, w := range r.IDR {
		p = binary.LittleEndian.AppendUint32(p, w)
	}
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(p, r.IIDR), r.AIDR)
}

// Any 64 bytes are an STE: Put restores them, a setter changes its field alone, and Illegal
// returns.
func FuzzSTE(f *testing.F) {
	guest := seedIDs(s1IDs())
	f.Add(make([]byte, STESize), guest)                                     // V=0
	f.Add([]byte{0: 0x0b, STESize - 1: 0xff}, guest)                        // stage 1, and a reserved bit
	f.Add([]byte{0: 0x0b, 7: 20 << 3, STESize - 1: 0}, guest)               // S1CDMax = SSIDSIZE
	f.Add([]byte{0: 0x0b, 7: 21 << 3, STESize - 1: 0}, guest)               // one more
	f.Add([]byte{0: 0x0b, 11: 1 << 3, STESize - 1: 0}, guest)               // S1STALLD
	f.Add([]byte{0: 0x0f, STESize - 1: 0}, seedIDs(s1IDs().with(S2P, 1)))   // nested
	f.Add([]byte{0: 0x0b, 6: 0x80, STESize - 1: 0}, seedIDs(ids(S1P, 1)))   // S1ContextPtr[55]
	f.Add([]byte{0: 0x09, 11: 0xff, STESize - 1: 0xff}, seedIDs(IDRegs{}))  // bypass, on an SMMU without features
	f.Add([]byte{0: 0x01, 11: 0xff, STESize - 1: 0xff}, []byte{0xff, 0xff}) // abort
	f.Fuzz(func(t *testing.T, p, id []byte) {
		var in, out [STESize]byte
		copy(in[:], p)
		s := LoadSTE(&in)
		was := s
		s.SetV(!s.V())
		s.SetConfig(^s.Config())
		s.SetS1Fmt(^s.S1Fmt())
		s.SetS1ContextPtr(^s.S1ContextPtr())
		s.SetS1CDMax(^s.S1CDMax())
		s.SetS1DSS(^s.S1DSS())
		s.SetS1CIR(^s.S1CIR())
		s.SetS1COR(^s.S1COR())
		s.SetS1CSH(^s.S1CSH())
		s.SetS1STALLD(!s.S1STALLD())
		s.SetEATS(^s.EATS())
		s.SetSTRW(^s.STRW())
		// Exactly the fields that have setters are now inverted.
		named := STE{0xf8ff_ffff_ffff_ffff, 0xf800_00ff}
		for i := range s {
			if s[i] != was[i]^named[i] {
				t.Fatalf("dw%d is %#x, was %#x", i, s[i], was[i])
			}
		}
		was.Put(&out)
		if in != out {
			t.Fatalf("%x became %x", in, out)
		}

		r := idRegs(id)
		rule := was.Illegal(&r)
		switch {
		case !was.V() && rule == nil:
			t.Fatal("legal with V=0")
		case was.V() && was.Config().Abort() && rule != nil:
			t.Fatalf("illegal though it aborts: %v", rule)
		case rule == nil && was.Config().Stage1() && !r.Has(S1P):
			t.Fatal("stage 1 without S1P")
		}
	})
}

// Any 16 bytes are a command: Put restores them, and reserved fields do not change the verdict of
// Illegal.
func FuzzCommand(f *testing.F) {
	guest := seedIDs(s1IDs())
	f.Add(uint64(0x00), uint64(0), guest)                            // reserved
	f.Add(uint64(0x0fc0_1046), uint64(0x4000_0000), guest)           // SYNC by MSI
	f.Add(uint64(0x3046), uint64(0), guest)                          // SYNC with CS=11
	f.Add(uint64(0x12), uint64(1<<10), guest)                        // a granule alone
	f.Add(uint64(0x12), uint64(2<<10|1<<8), guest)                   // 16 KiB at level 1
	f.Add(uint64(0xffff_ffff_0000_0004), uint64(RangeAll), guest)    // CFGI_ALL
	f.Add(uint64(0x40), uint64(53), seedIDs(s1IDs().with(ATS, 1)))   // ATC_INV, Size 53
	f.Add(uint64(0x0403), uint64(0), guest)                          // SSec
	f.Add(uint64(0x44), uint64(0), seedIDs(s1IDs()))                 // RESUME without stalls
	f.Add(^uint64(0), ^uint64(0), []byte{0xff, 0xff, 0xff, 0xff, 0}) // all ones
	f.Fuzz(func(t *testing.T, qw0, qw1 uint64, id []byte) {
		c, r := Command{qw0, qw1}, idRegs(id)
		var p [CommandSize]byte
		c.Put(&p)
		if LoadCommand(p[:]) != c {
			t.Fatalf("%x became %x", c, LoadCommand(p[:]))
		}
		illegal := c.Illegal(&r) != nil
		if first, last := c.StreamRange(); first > last || c.StreamID() < first || c.StreamID() > last {
			t.Fatalf("range %v to %v of stream %v", first, last, c.StreamID())
		}
		if commands[c.Opcode()].name == "" && !illegal {
			t.Fatalf("%v is legal", c.Opcode())
		}
		if c.Opcode() == OpTLBINSNHAll && illegal {
			t.Fatal("TLBI_NSNH_ALL is illegal")
		}
		d := c
		d[0] ^= 1 << 8 // no command has a field with this bit
		if (d.Illegal(&r) != nil) != illegal {
			t.Fatal("a reserved bit changes the verdict")
		}
	})
}

// Any 32 bytes are an event record: Put restores them, a setter changes its field alone, and String
// returns.
func FuzzEvent(f *testing.F) {
	f.Add(make([]byte, EventSize))
	f.Add([]byte{0: 0x10, 4: 8, 12: 8, 13: 2, EventSize - 1: 0}) // F_TRANSLATION
	f.Add([]byte{0: 0x08, 1: 0xf0, EventSize - 1: 0xff})         // C_BAD_SUBSTREAMID
	f.Add([]byte{0: 0x03, 24: 0x40, EventSize - 1: 0xff})        // F_STE_FETCH
	f.Add([]byte{0: 0xe0, EventSize - 1: 0xff})                  // IMPLEMENTATION DEFINED
	f.Fuzz(func(t *testing.T, p []byte) {
		var in, out [EventSize]byte
		copy(in[:], p)
		e := LoadEvent(&in)
		was := e
		e.SetType(^e.Type())
		e.SetStreamID(^e.StreamID())
		e.SetSubstreamOnly(^e.SubstreamID())
		e.SetPnU(!e.PnU())
		e.SetInD(!e.InD())
		e.SetRnW(!e.RnW())
		e.SetS2(!e.S2())
		e.SetClass(^e.Class())
		e.SetTTRnW(!e.TTRnW())
		e.SetInputAddr(^e.InputAddr())
		named := Event{0xffff_ffff_ffff_f0ff, 0x0000_138e_0000_0000, ^uint64(0), 0}
		for i := range e {
			if e[i] != was[i]^named[i] {
				t.Fatalf("dw%d is %#x, was %#x", i, e[i], was[i])
			}
		}
		was.Put(&out)
		if in != out {
			t.Fatalf("%x became %x", in, out)
		}
		if was.String() == "" {
			t.Fatal("no name")
		}
	})
}

// Any register values give a Stream table and queues within limits: no address is beyond the output
// address size, and no structure is beyond its table.
func FuzzTablesAndQueues(f *testing.F) {
	guest := seedIDs(s1IDs())
	f.Add(uint64(0x4000_0000), uint32(1<<16|8<<6|16), uint64(0x4000_0009), uint32(0x1234), uint32(5), uint32(2), guest) // as Linux sets it up
	f.Add(^uint64(0), uint32(63), ^uint64(0), ^uint32(0), ^uint32(0), uint32(0), guest)                                 // LOG2SIZE 63
	f.Add(^uint64(0), uint32(1<<16|6<<6|63), uint64(0x1f), uint32(0), uint32(0), ^uint32(0), guest)                     // the same in two levels
	f.Add(uint64(0), uint32(3<<16|31<<6), uint64(0), uint32(1), uint32(1), uint32(0), []byte{0xff, 0xff, 0xff, 0xff})   // reserved FMT and SPLIT
	f.Fuzz(func(t *testing.T, base uint64, cfg uint32, l1std uint64, sid, prod, cons uint32, id []byte) {
		r := idRegs(id)
		if r.Get(SIDSIZE) > 32 {
			r.Set(SIDSIZE, 32) // no SMMU has more (§6.3.2)
		}
		tab := NewStreamTable(base, cfg, r)
		if tab.Addr&^r.OutputMask() != 0 || tab.Addr%64 != 0 {
			t.Fatalf("table at %#x", tab.Addr)
		}
		if s := StreamID(sid); tab.Contains(s) {
			at, n := tab.STEAddr(s), uint64(STESize)
			if tab.TwoLevel {
				at, n = tab.L1STDAddr(s), L1STDSize
			}
			if at < tab.Addr || at+n > tab.Addr+tab.Size() {
				t.Fatalf("stream %v at %#x, table at %#x of %#x bytes", s, at, tab.Addr, tab.Size())
			}
		}
		if n := L1STD(l1std).STEs(tab); n > 1<<tab.Split || n != 0 && L1STD(l1std).L2Ptr()%(n*STESize) != 0 {
			t.Fatalf("level 2 of %d STEs at %#x", n, L1STD(l1std).L2Ptr())
		}

		q := QueueBase(base).Queue(CommandSize, r.Get(CMDQS)%(MaxQueueShift+1), r.OutputMask())
		end := q.Addr + CommandSize<<q.Log2Size
		if at := q.Entry(Index(cons)); at < q.Addr || at+CommandSize*uint64(q.Contiguous(Index(cons))) > end {
			t.Fatalf("entry at %#x, queue from %#x to %#x", at, q.Addr, end)
		}
		if n, ok := q.Len(Index(prod), Index(cons)); ok && (n > 1<<q.Log2Size || q.Next(Index(cons), n) != Index(prod)&q.Mask()) {
			t.Fatalf("%d entries from %#x to %#x", n, cons, prod)
		}
	})
}

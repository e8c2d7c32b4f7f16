package soft

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// stage2 is a stage 2 of the guest's own in the form that walks want.
type stage2 struct {
	tables
	affd   bool
	ha, hd bool // hd implies ha
	fwb    bool
	ptw    bool
	xnx    bool
	record bool // S2R
	stall  bool // S2S
}

// newStage2 makes one of a stage 2 that is legal and effective.
func newStage2(s *smmuv3.Stage2, ids *smmuv3.IDRegs) *stage2 {
	level, _ := s.StartLevel(ids)
	t := &stage2{
		tables: tables{
			format:     s.Format(ids),
			level:      level,
			input:      s.InputBits(),
			outputBits: s.OutputBits(ids),
			bigEndian:  s.ENDI,
			haft:       s.HAFT,
		},
		affd: s.AFFD, ha: s.HA, hd: s.HD, fwb: s.FWB, ptw: s.PTW,
		xnx:    ids.Has(smmuv3.XNX),
		record: s.R,
		stall:  s.S,
	}
	t.setBase(s.TTB)
	return t
}

// purpose is what stage 2 is to translate an address for.
type purpose uint8

const (
	forInput  purpose = iota // the transaction's own access
	forCD                    // reading a CD or L1CD
	forTable                 // reading a descriptor of stage 1
	forUpdate                // writing its flags
)

// class is what an event calls it (§7.3.13).
func (p purpose) class() smmuv3.Class {
	return [...]smmuv3.Class{smmuv3.ClassIN, smmuv3.ClassCD, smmuv3.ClassTT, smmuv3.ClassTT}[p]
}

// need is the permission that lets an access for the purpose pass: what the SMMU
// does itself is data (§7.3.16).
func (p purpose) need(a *access) permissions {
	return [...]permissions{a.need, privRead, privRead, privWrite}[p]
}

// walkStage2 translates an IPA by stage 2's tables in memory. Otherwise it returns
// the event that §7.3.22 has come first, and for F_WALK_EABT the address that could
// not be read or updated.
func (h *Host) walkStage2(s *stage2, ipa uint64, why purpose, need permissions) (l leaf, event smmuv3.EventType, at uint64) {
	t := &s.tables
	if ipa>>t.input != 0 {
		return leaf{}, smmuv3.FTranslation, 0
	}
	table, level, top := t.base, t.level, t.input
	for updates := 0; updates < maxUpdates; {
		shift := t.format.Granule.LevelShift(level)
		at = table + ipa&(1<<top-1)>>shift*8
		d, kind, addr, event := h.read(t, level, at)
		if event != 0 {
			return leaf{}, event, at
		}
		perms, update := permissions(0), d
		if kind == smmuv3.DescLeaf {
			if perms, update, event = judgeStage2(d, s, why, need); event != 0 {
				return leaf{}, event, at
			}
		} else if t.haft {
			update = d.WithAF() // §3.13.6
		}
		if update != d {
			swapped, err := h.update(t, at, d, update)
			if err != nil {
				break
			}
			if !swapped {
				updates++
				continue // see what it is now
			}
		}
		if kind == smmuv3.DescLeaf {
			return leaf{pa: addr, size: shift, perms: perms}, 0, 0
		}
		table, level, top = addr, level+1, shift
	}
	return leaf{}, smmuv3.FWalkEABT, at
}

// judgeStage2 is judge for a leaf of stage 2.
func judgeStage2(d smmuv3.Desc, s *stage2, why purpose, need permissions) (permissions, smmuv3.Desc, smmuv3.EventType) {
	if !d.AF() && !s.ha && !s.affd {
		return 0, d, smmuv3.FAccess
	}
	// What the SMMU itself reads and writes must not be Device memory with S2PTW (§5.2).
	if s.ptw && why != forInput && d.Device(s.fwb) {
		return 0, d, smmuv3.FPermission
	}
	clean := s.hd && d.DBM() && d.S2AP()&0b10 == 0
	effective, update := d, d
	if clean {
		effective = d.WithS2Dirty()
	}
	perms := permitS2(effective, s.xnx)
	if perms&need == 0 {
		return 0, d, smmuv3.FPermission
	}
	if s.ha {
		update = d.WithAF()
	}
	if clean && need&anyWrite != 0 {
		update, clean = update.WithS2Dirty(), false
	}
	if clean {
		perms &^= anyWrite // the first write walks again
	}
	return perms, update, 0
}

// stage2 translates an IPA that comes up in a transaction to an address.
func (b *binding) stage2(ipa uint64, why purpose, iova uint64, a *access) (leaf, *refusal) {
	need := why.need(a)
	l, event, at := b.host.walkStage2(b.s2, ipa, why, need)
	if event != 0 {
		return leaf{}, b.stage2Fault(event, at, ipa, why, iova, a)
	}
	return l, nil
}

// physical is where something lies that the SMMU itself accesses.
func (b *binding) physical(addr uint64, why purpose, iova uint64, a *access) (uint64, *refusal) {
	if b.s2 == nil {
		return addr, nil
	}
	l, r := b.stage2(addr, why, iova, a)
	if r != nil {
		return 0, r
	}
	return l.translate(addr).pa, nil
}

// translateIPA finds out where a transaction goes whose address is an IPA.
func (b *binding) translateIPA(ipa uint64, a *access) (translation, *refusal) {
	h := b.host
	if t, ok := b.ipas.lookup(space{}, ipa, a.need); ok {
		return t, nil
	}
	now := h.clock.Load() // before the first descriptor is read
	l, r := b.stage2(ipa, forInput, ipa, a)
	if r != nil {
		return translation{}, r
	}
	b.ipas.insert(space{}, ipa, l, now, &h.clock)
	return l.translate(ipa), nil
}

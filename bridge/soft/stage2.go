package soft

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// stage2 is the guest's stage 2 in the form that walks use.
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

// newStage2 converts a stage 2 that is legal and effective on an SMMU with these ID registers.
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

// purpose is the reason for a translation by stage 2.
type purpose uint8

const (
	forInput  purpose = iota // the transaction's own access
	forCD                    // reading a CD or L1CD
	forTable                 // reading a descriptor of stage 1
	forUpdate                // writing its flags
)

// class returns CLASS of an event (§7.3.13).
func (p purpose) class() smmuv3.Class {
	return [...]smmuv3.Class{smmuv3.ClassIN, smmuv3.ClassCD, smmuv3.ClassTT, smmuv3.ClassTT}[p]
}

// need returns the permission that the access requires. The SMMU's own accesses are data
// accesses (§7.3.16).
func (p purpose) need(a *access) permissions {
	return [...]permissions{a.need, privRead, privRead, privWrite}[p]
}

// walkTables2 translates an IPA by the tables of stage 2. On a fault it returns the event with the
// highest priority by §7.3.22. For F_WALK_EABT it also returns the address that it could not read
// or update.
func (h *Host) walkTables2(
	s2 *stage2, ipa uint64, why purpose, need permissions, w *walkState,
) (l leaf, event smmuv3.EventType, at uint64) {
	if ipa>>s2.input != 0 {
		return leaf{}, smmuv3.FTranslation, 0
	}
	if from, ok := w.find(&s2.tables, ipa); ok {
		if l, event, _ := h.walkTables2From(from, s2, ipa, why, need, w); event == 0 {
			return l, 0, 0
		}
	}
	return h.walkTables2From(s2.root(), s2, ipa, why, need, w)
}

// walkTables2From is walkTables2 from a step on.
func (h *Host) walkTables2From(
	s step, s2 *stage2, ipa uint64, why purpose, need permissions, w *walkState,
) (l leaf, event smmuv3.EventType, at uint64) {
	t := &s2.tables
	for updates := 0; updates < maxUpdates; {
		shift := t.format.Granule.LevelShift(s.level)
		at = s.table + ipa&(1<<s.top-1)>>shift*8
		d, kind, addr, event := h.read(t, s.level, at)
		if event != 0 {
			return leaf{}, event, at
		}
		perms, update := permissions(0), d
		if kind == smmuv3.DescLeaf {
			if perms, update, event = judgeStage2(d, s2, why, need); event != 0 {
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
				continue // read it again
			}
		}
		if kind == smmuv3.DescLeaf {
			return leaf{pa: addr, size: shift, perms: perms}, 0, 0
		}
		s.table, s.level, s.top = addr, s.level+1, shift
		w.keep(t, ipa, s)
	}
	return leaf{}, smmuv3.FWalkEABT, at
}

// judgeStage2 decides on an access as judge does, by a leaf of stage 2.
func judgeStage2(d smmuv3.Desc, s *stage2, why purpose, need permissions) (permissions, smmuv3.Desc, smmuv3.EventType) {
	if !d.AF() && !s.ha && !s.affd {
		return 0, d, smmuv3.FAccess
	}
	// With S2PTW the SMMU's own accesses must not be to Device memory (§5.2).
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

// walkStage2 translates an IPA that a transaction uses.
func (b *binding) walkStage2(ipa uint64, why purpose, iova uint64, a *access) (leaf, *refusal) {
	need := why.need(a)
	w := &a.walk
	if why == forCD {
		w = new(walkState) // this walk comes before the walks that use a.walk
	}
	l, event, at := b.host.walkTables2(b.s2, ipa, why, need, w)
	if event != 0 {
		return leaf{}, b.stage2Fault(event, at, ipa, why, iova, a)
	}
	return l, nil
}

// physical returns the physical address of a structure that the SMMU itself accesses.
func (b *binding) physical(addr uint64, why purpose, iova uint64, a *access) (uint64, *refusal) {
	if b.s2 == nil {
		return addr, nil
	}
	l, r := b.walkStage2(addr, why, iova, a)
	if r != nil {
		return 0, r
	}
	return l.translate(addr).pa, nil
}

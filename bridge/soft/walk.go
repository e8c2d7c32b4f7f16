package soft

import "github.com/go-vsmmu/vsmmuv3/smmuv3"

// walk translates an address by the tables of stage 1. On a fault it returns the event with the
// highest priority by §7.3.22. Addresses of tables are IPAs if stage 2 also translates.
func (b *binding) walk(c *contextDesc, va uint64, a *access) (leaf, *refusal) {
	half, ok := c.half(va)
	if !ok || !half.walk || half.e0pd && !a.attrs.Privileged {
		return leaf{}, b.walkFault(smmuv3.FTranslation, 0, va, c, a)
	}

	t := &half.tables
	if from, ok := a.walk.find(t, va); ok {
		// On a fault it walks again from the first table, and reports the event of this walk.
		if l, r := b.walkFrom(from, half, c, va, a); r == nil {
			return l, nil
		}
	}
	return b.walkFrom(t.root(), half, c, va, a)
}

// walkFrom is walk from a step on.
func (b *binding) walkFrom(s step, half *halfSpace, c *contextDesc, va uint64, a *access) (leaf, *refusal) {
	h := b.host
	t := &half.tables
	var at uint64
	for updates := 0; updates < maxUpdates; {
		shift := t.format.Granule.LevelShift(s.level)
		ipa := s.table + va&(1<<s.top-1)>>shift*8
		at = ipa
		var r *refusal
		if b.s2 != nil {
			if at, r = b.physical(ipa, forTable, va, a); r != nil {
				return leaf{}, r
			}
		}
		d, kind, addr, event := h.read(t, s.level, at)
		if event != 0 {
			return leaf{}, b.walkFault(event, at, va, c, a)
		}
		perms, update := permissions(0), d
		if kind == smmuv3.DescLeaf {
			if perms, update, event = judge(d, s.limits, c, a); event != 0 {
				return leaf{}, b.walkFault(event, at, va, c, a)
			}
		} else if t.haft {
			update = d.WithAF() // §3.13.6
		}
		if update != d {
			if at, r = b.physical(ipa, forUpdate, va, a); r != nil {
				return leaf{}, r
			}
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
			if half.e0pd {
				perms &^= anyUnpriv // for later lookups in the TLB
			}
			return leaf{addr, shift, !d.NG(), perms}, nil
		}
		if !half.had {
			s.limits.add(d)
		}
		s.table, s.level, s.top = addr, s.level+1, shift
		a.walk.keep(t, va, s)
	}
	return leaf{}, b.walkFault(smmuv3.FWalkEABT, at, va, c, a)
}

// judge decides whether the leaf permits an access. It returns the descriptor that must be in
// memory before the access is performed (§3.13), and the permissions of that descriptor.
func judge(d smmuv3.Desc, limits hierarchy, c *contextDesc, a *access) (permissions, smmuv3.Desc, smmuv3.EventType) {
	if !d.AF() && !c.ha && !c.affd {
		return 0, d, smmuv3.FAccess
	}
	// A writable-clean page has the permissions of a writable one (DDI 0487, D8.5.2).
	clean := c.hd && d.DBM() && d.AP()&0b10 != 0
	effective, update := d, d
	if clean {
		effective = d.WithDirty()
	}
	perms := permit(effective, limits, c)
	if perms&a.need == 0 {
		return 0, d, smmuv3.FPermission
	}
	if c.ha {
		update = d.WithAF()
	}
	if clean && a.write {
		update, clean = update.WithDirty(), false
	}
	if clean {
		perms &^= anyWrite // the first write walks again
	}
	return perms, update, 0
}

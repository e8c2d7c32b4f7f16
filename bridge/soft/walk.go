package soft

import (
	"github.com/go-vsmmu/vsmmuv3/guestmem"
	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

// leaf is what a walk ends in.
type leaf struct {
	pa     uint64 // where the page or block begins
	size   uint   // log2 of its bytes
	global bool
	perms  permissions
}

// maxUpdates bounds how often a walk starts over at a descriptor that the guest
// changes while its flags are being updated.
const maxUpdates = 16

// walk translates an address by the tables in memory. Otherwise it returns the
// event that §7.3.22 has come first, and for F_WALK_EABT the address that could
// not be read or updated.
func (h *Host) walk(c *context, va uint64, a *access) (l leaf, event smmuv3.EventType, at uint64) {
	half, ok := c.half(va)
	if !ok || !half.walk {
		return leaf{}, smmuv3.FTranslation, 0
	}
	if half.e0pd && !a.attrs.Privileged {
		return leaf{}, smmuv3.FTranslation, 0
	}

	var limits hierarchy
	table, level, top := half.table, half.level, half.input
	for updates := 0; updates < maxUpdates; {
		shift := half.format.Granule.LevelShift(level)
		at = table + va&(1<<top-1)>>shift*8
		word, err := h.load(at)
		if err != nil {
			return leaf{}, smmuv3.FWalkEABT, at
		}
		d := smmuv3.Desc(c.desc(word))
		kind := d.Kind(half.format, level)
		if kind == smmuv3.DescInvalid {
			return leaf{}, smmuv3.FTranslation, 0
		}
		addr := d.Addr(half.format, level)
		if addr>>c.outputBits != 0 {
			return leaf{}, smmuv3.FAddrSize, 0
		}
		perms, update := permissions(0), d
		if kind == smmuv3.DescLeaf {
			if perms, update, event = judge(d, limits, c, a); event != 0 {
				return leaf{}, event, 0
			}
		} else if c.haft {
			update = d.WithAF() // §3.13.6
		}
		if update != d {
			swapped, err := h.swap.CompareAndSwap(guestmem.GPA(at), word, c.desc(uint64(update)))
			if err != nil {
				break
			}
			if !swapped {
				updates++
				continue // the guest was faster: see what it is now
			}
		}

		if kind == smmuv3.DescLeaf {
			if half.e0pd {
				perms &^= anyUnpriv // for the others who find it in the TLB
			}
			return leaf{addr, shift, !d.NG(), perms}, 0, 0
		}
		if !half.had {
			limits.add(d)
		}
		table, level, top = addr, level+1, shift
	}
	return leaf{}, smmuv3.FWalkEABT, at
}

// judge decides on an access by the leaf that translates it. The descriptor
// that it returns is the one to have in memory before the access is made
// (§3.13); the permissions are those of that one.
func judge(d smmuv3.Desc, limits hierarchy, c *context, a *access) (permissions, smmuv3.Desc, smmuv3.EventType) {
	if !d.AF() && !c.ha && !c.affd {
		return 0, d, smmuv3.FAccess
	}
	// Writable-clean, for which permissions are those of a writable page
	// (DDI 0487, D8.5.2).
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
		perms &^= privWrite | unprivWrite // the first write walks again
	}
	return perms, update, 0
}

// translate is where the leaf takes an address that lies in it.
func (l leaf) translate(va uint64) translation {
	offset := va & (1<<l.size - 1)
	return translation{l.pa | offset, 1<<l.size - offset}
}

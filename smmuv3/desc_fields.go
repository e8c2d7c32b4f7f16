package smmuv3

import "fmt"

// The rows of descriptors, without those of the address, whose place depends on the granule and the
// level (D8.3.1).
var (
	descRowsTable = []row{{name: "AF", place: descAF, mean: oneOf("", "used by a walk, with CD.HAFT or STE.S2HAFT")}}
	// descRowsLimits are the limits of table descriptors of stage 1.
	descRowsLimits = []row{
		{name: "PXNTable", place: descTablePXN, mean: oneOf("", "privileged execute-never below")},
		{name: "UXNTable", place: descTableUXN, mean: oneOf("", "unprivileged execute-never below")},
		{name: "APTable", place: descTableAP, mean: oneOf("no limit", "no unprivileged access below",
			"read-only below", "privileged read-only below")},
		{name: "NSTable", place: descTableNS},
	}
	descRowsS1 = []row{
		{name: "AttrIndx", place: descAttrIndx, mean: func(v uint64) string {
			return fmt.Sprintf("Attr%d of CD.MAIR", v)
		}},
		{name: "NS", place: descNS},
		{name: "AP", place: descAP, mean: oneOf("privileged read and write", "read and write", "privileged read",
			"read")},
		{name: "SH", place: descSH, mean: shareability},
		{name: "AF", place: descAF, mean: accessFlag},
		{name: "nG", place: descNG, mean: oneOf("all ASIDs", "the ASID of the walk")},
		{name: "DBM", place: descDBM, mean: dirtyModifier},
		{name: "Contiguous", place: descContiguous, mean: oneOf("", "one of a contiguous set")},
		{name: "PXN", place: descPXN, mean: oneOf("", "privileged execute-never")},
		{name: "UXN", place: descUXN, mean: oneOf("", "unprivileged execute-never")},
		{name: "SW_RESERVED", place: descSW, mean: about("for software")},
	}
	descRowsS2 = []row{
		{name: "MemAttr", place: descS2MemAttr, mean: stage2MemAttr},
		{name: "S2AP", place: descS2AP, mean: oneOf("no access", "read", "write", "read and write")},
		{name: "SH", place: descSH, mean: shareability},
		{name: "AF", place: descAF, mean: accessFlag},
		{name: "DBM", place: descDBM, mean: dirtyModifier},
		{name: "Contiguous", place: descContiguous, mean: oneOf("", "one of a contiguous set")},
		{name: "XN", place: descS2XN, mean: oneOf("executable",
			"privileged execute-never with IDR3.XNX, else executable", "execute-never",
			"unprivileged execute-never with IDR3.XNX, else execute-never")},
		{name: "SW_RESERVED", place: descSW, mean: about("for software")},
	}

	accessFlag    = oneOf("an access faults or sets the flag", "accessed")
	dirtyModifier = oneOf("", "a write may make it writable")
)

// stage2MemAttr describes MemAttr of a leaf of stage 2 without STE.S2FWB (D8.6.6).
func stage2MemAttr(v uint64) string {
	outer, inner := v>>2, v&3
	cache := [4]string{"reserved", "non-cacheable", "write-through", "write-back"}
	switch {
	case outer == 0:
		return "without S2FWB: Device-" + [4]string{"nGnRnE", "nGnRE", "nGRE", "GRE"}[inner]
	case inner == 0:
		return "without S2FWB: reserved"
	}
	return fmt.Sprintf("without S2FWB: Normal, outer %s, inner %s", cache[outer], cache[inner])
}

// Fields explains a descriptor of a table at a level, -1 to 3, of stage 1 or 2. An invalid
// descriptor has no fields but the bits that make it invalid. f.Granule is one of the constants.
func (d Desc) Fields(f Format, level, stage int) []Field {
	kind := d.Kind(f, level)
	types := [2]string{"block", "table"}
	switch {
	case level == 3:
		types = [2]string{"reserved at level 3: invalid", "page"}
	case !f.leafLevel(level):
		types[0] = "block, which this level does not have: invalid"
	}
	rows := []row{{name: "Valid", place: descValid, mean: oneOf("invalid: accesses fault", "valid")}}
	if d&1 != 0 {
		rows = append(rows, row{name: "Type", place: descNotBlock, mean: oneOf(types[:]...)})
	}
	if kind == DescInvalid {
		// The other bits are software's.
		return explain([]uint64{uint64(d) & (1<<len(rows) - 1)}, rows)
	}
	rows = append(rows, d.addressRows(f, level, kind)...)
	switch {
	case kind == DescTable && stage == 1:
		rows = append(append(rows, descRowsTable...), descRowsLimits...)
	case kind == DescTable:
		rows = append(rows, descRowsTable...)
	case stage == 1:
		rows = append(rows, withoutWideAddress(descRowsS1, f)...)
	default:
		rows = append(rows, withoutWideAddress(descRowsS2, f)...)
	}
	return explain([]uint64{uint64(d)}, rows)
}

// addressRows returns the rows of the address.
func (d Desc) addressRows(f Format, level int, kind DescKind) []row {
	name, lo := "OutputAddress", uint(f.Granule)
	switch {
	case kind == DescTable:
		name = "NextTable"
	case level < 3:
		lo = f.Granule.LevelShift(level)
	}
	whole := about(fmt.Sprintf("%#x", d.Addr(f, level)))
	low := row{name: name, place: place(lo) + place(48-lo)*wide + address, mean: whole}
	switch {
	case f.Granule == Granule64K:
		return []row{low, {name: name + "[51:48]", place: descAddr52_64K}}
	case f.Wide:
		return []row{low, {name: name + "[49:48]", place: descAddr52Lo}, {name: name + "[51:50]", place: descAddr52Hi}}
	}
	low.mean = nil
	return []row{low}
}

// withoutWideAddress removes SH if bits of the address take its place.
func withoutWideAddress(rows []row, f Format) (kept []row) {
	for _, r := range rows {
		if f.Wide && f.Granule != Granule64K && r.place == descSH {
			continue
		}
		kept = append(kept, r)
	}
	return kept
}

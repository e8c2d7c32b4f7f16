package firmware

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/smmuv3"
)

func (i *IORT) check() error {
	switch {
	case len(i.OEMID) > oemIDSize:
		return invalid("OEMID %q: longer than %d bytes", i.OEMID, oemIDSize)
	case len(i.OEMTableID) > oemTableIDSize:
		return invalid("OEMTableID %q: longer than %d bytes", i.OEMTableID, oemTableIDSize)
	}
	if itsSize+4*len(i.ITS) > maxNode {
		return invalid("ITS: %d of them do not fit into a node of 64 KiB", len(i.ITS))
	}
	for n, id := range i.ITS {
		for k, other := range i.ITS[:n] {
			if id == other {
				return invalid("ITS[%d] %d: the same as ITS[%d]", n, id, k)
			}
		}
	}
	for n := range i.SMMUs {
		if err := i.checkSMMU(n); err != nil {
			return inElement("SMMUs", n, err)
		}
	}
	for n := range i.Roots {
		if err := i.checkRoot(n); err != nil {
			return inElement("Roots", n, err)
		}
	}
	for n := range i.Components {
		if err := i.checkComponent(n); err != nil {
			return inElement("Components", n, err)
		}
	}
	for n := range i.SMMUs {
		if err := i.checkDeviceID(n); err != nil {
			return inElement("SMMUs", n, err)
		}
	}
	for n := range i.RMRs {
		if err := i.checkRMR(n); err != nil {
			return inElement("RMRs", n, err)
		}
	}
	return nil
}

// inElement adds the element of a slice to an error.
func inElement(slice string, n int, err error) error { return fmt.Errorf("%s[%d]: %w", slice, n, err) }

func (i *IORT) has(smmu int) bool { return smmu >= 0 && smmu < len(i.SMMUs) }

func (i *IORT) checkSMMU(n int) error {
	s := &i.SMMUs[n]
	if err := s.check(len(i.ITS) > 0); err != nil {
		return err
	}
	for k := range i.SMMUs[:n] {
		if o := &i.SMMUs[k]; s.Base < o.Base+smmuv3.RegisterSpace && o.Base < s.Base+smmuv3.RegisterSpace {
			return invalid("Base %#x: the register file overlaps that of SMMUs[%d]", s.Base, k)
		}
	}
	return nil
}

func (i *IORT) checkRoot(n int) error {
	r := &i.Roots[n]
	switch {
	case r.Requesters == 0 || r.Requesters > 1<<16:
		return invalid("Requesters %d: a segment has 1 to 65536", r.Requesters)
	case r.AddressBits == 0 || r.AddressBits > 64:
		return invalid("AddressBits %d: addresses have 1 to 64", r.AddressBits)
	case r.SMMU != NoSMMU && !i.has(r.SMMU):
		return invalid("SMMU %d: the table has %d", r.SMMU, len(i.SMMUs))
	case uint64(r.StreamBase)+uint64(r.Requesters) > 1<<32:
		return invalid("StreamBase %v: %d StreamIDs end beyond 32 bits", r.StreamBase, r.Requesters)
	case r.SMMU != NoSMMU && uint64(i.SMMUs[r.SMMU].DeviceBase)+uint64(r.StreamBase)+uint64(r.Requesters) > 1<<32:
		return invalid("StreamBase %v: with the SMMU's DeviceBase, DeviceIDs end beyond 32 bits", r.StreamBase)
	case r.CanWBS && r.NonCoherent:
		return invalid("CanWBS: DMA that is always cached is not NonCoherent")
	}
	for k := range i.Roots[:n] {
		o := &i.Roots[k]
		switch {
		case r.Segment == o.Segment:
			return invalid("Segment %d: the same as that of Roots[%d]", r.Segment, k)
		case r.SMMU == o.SMMU && (r.SMMU != NoSMMU || len(i.ITS) > 0) && r.overlaps(o):
			return invalid("StreamBase %v: %d IDs overlap those of Roots[%d]", r.StreamBase, r.Requesters, k)
		case len(i.ITS) > 0 && i.deviceIDs(r).overlap(i.deviceIDs(o)):
			return invalid("StreamBase %v: DeviceIDs overlap those of Roots[%d] (separate them by SMMU.DeviceBase)",
				r.StreamBase, k)
		}
	}
	return nil
}

func (r *PCIRoot) overlaps(o *PCIRoot) bool { return r.ids(0).overlap(o.ids(0)) }

// ids returns the IDs of the root's requesters, from base plus StreamBase on.
func (r *PCIRoot) ids(base uint32) idRange {
	return idRange{uint64(base) + uint64(r.StreamBase), uint64(r.Requesters)}
}

// idRange is a range of StreamIDs or DeviceIDs.
type idRange struct{ first, n uint64 }

func (r idRange) has(id uint64) bool { return id-r.first < r.n }

func (r idRange) overlap(o idRange) bool { return r.first < o.first+o.n && o.first < r.first+r.n }

// deviceIDs returns the DeviceIDs of a root's requesters at the ITS.
func (i *IORT) deviceIDs(r *PCIRoot) idRange {
	if r.SMMU == NoSMMU {
		return r.ids(0)
	}
	return r.ids(i.SMMUs[r.SMMU].DeviceBase)
}

var acpiPath = regexp.MustCompile(`^\\[A-Z_][A-Z0-9_]{3}(\.[A-Z_][A-Z0-9_]{3})*$`)

func (i *IORT) checkComponent(n int) error {
	c := &i.Components[n]
	switch {
	case !acpiPath.MatchString(c.Path):
		return invalid("Path %q: not a path of names of four characters, as in \\_SB_.VR00", c.Path)
	case !i.has(c.SMMU):
		return invalid("SMMU %d: the table has %d", c.SMMU, len(i.SMMUs))
	case len(c.StreamIDs) == 0:
		return invalid("StreamIDs: none")
	case len(c.name())+componentSize+mappingSize*len(c.StreamIDs) > maxNode:
		return invalid("StreamIDs: %d of them and the path do not fit into a node of 64 KiB", len(c.StreamIDs))
	case c.PASIDBits > maxPASIDBits:
		return invalid("PASIDBits %d: SubstreamIDs have up to %d", c.PASIDBits, maxPASIDBits)
	case c.AddressBits == 0 || c.AddressBits > 64:
		return invalid("AddressBits %d: addresses have 1 to 64", c.AddressBits)
	}
	for k := range i.Components[:n] {
		if i.Components[k].Path == c.Path {
			return invalid("Path %q: the same as that of Components[%d]", c.Path, k)
		}
	}
	for k, sid := range c.StreamIDs {
		if slices.Contains(c.StreamIDs[:k], sid) {
			return invalid("StreamIDs: %v twice", sid)
		}
		if uint64(i.SMMUs[c.SMMU].DeviceBase)+uint64(sid) > lastID {
			return invalid("StreamIDs: with the SMMU's DeviceBase, the DeviceID of %v is beyond 32 bits", sid)
		}
		if owner := i.ownerOf(c.SMMU, sid, n); owner != "" {
			return invalid("StreamIDs: %s has %v", owner, sid)
		}
		if owner := i.sender(i.deviceID(c, sid), n); owner != "" && len(i.ITS) > 0 {
			return invalid("StreamIDs: %s has the DeviceID of %v (separate them by SMMU.DeviceBase)", owner, sid)
		}
	}
	return nil
}

// ownerOf returns the name of the root, or of the component before the nth, that has a StreamID of
// an SMMU. It returns "" if none has it.
func (i *IORT) ownerOf(smmu int, sid smmuv3.StreamID, n int) string {
	for k := range i.Roots {
		r := &i.Roots[k]
		if r.SMMU == smmu && r.ids(0).has(uint64(sid)) {
			return fmt.Sprintf("Roots[%d]", k)
		}
	}
	for k := range i.Components[:n] {
		if c := &i.Components[k]; c.SMMU == smmu && slices.Contains(c.StreamIDs, sid) {
			return fmt.Sprintf("Components[%d]", k)
		}
	}
	return ""
}

// deviceID returns the DeviceID of a component's stream at the ITS.
func (i *IORT) deviceID(c *Component, sid smmuv3.StreamID) uint64 {
	return uint64(i.SMMUs[c.SMMU].DeviceBase) + uint64(sid)
}

// sender returns the name of the root, or of the component before the nth, that has a DeviceID at
// the ITS. It returns "" if none has it.
func (i *IORT) sender(id uint64, n int) string {
	for k := range i.Roots {
		if i.deviceIDs(&i.Roots[k]).has(id) {
			return fmt.Sprintf("Roots[%d]", k)
		}
	}
	for k := range i.Components[:n] {
		c := &i.Components[k]
		if slices.ContainsFunc(c.StreamIDs, func(sid smmuv3.StreamID) bool { return i.deviceID(c, sid) == id }) {
			return fmt.Sprintf("Components[%d]", k)
		}
	}
	return ""
}

// checkDeviceID returns an error if an SMMU's DeviceID is also that of a function, a component or
// another SMMU.
func (i *IORT) checkDeviceID(n int) error {
	s := &i.SMMUs[n]
	if len(i.ITS) == 0 || !s.IDs.Has(smmuv3.MSI) {
		return nil
	}
	if owner := i.sender(uint64(s.DeviceID), len(i.Components)); owner != "" {
		return invalid("DeviceID %#x: %s has it", s.DeviceID, owner)
	}
	for k := range i.SMMUs[:n] {
		if o := &i.SMMUs[k]; o.IDs.Has(smmuv3.MSI) && o.DeviceID == s.DeviceID {
			return invalid("DeviceID %#x: the same as that of SMMUs[%d]", s.DeviceID, k)
		}
	}
	return nil
}

func (i *IORT) checkRMR(n int) error {
	r := &i.RMRs[n]
	switch {
	case !i.has(r.SMMU):
		return invalid("SMMU %d: the table has %d", r.SMMU, len(i.SMMUs))
	case r.Base%granule64K != 0:
		return invalid("Base %#x: not a multiple of 64 KiB", r.Base)
	case r.Size == 0 || r.Size%granule64K != 0:
		return invalid("Size %#x: not a positive multiple of 64 KiB", r.Size)
	case r.Base+r.Size-1 < r.Base:
		return invalid("Size %#x: the range from %#x on ends beyond 64 bits", r.Size, r.Base)
	case r.Streams == 0:
		return invalid("Streams 0: a range is for one stream or more")
	case uint64(r.First)+uint64(r.Streams) > 1<<32:
		return invalid("Streams %d: StreamIDs from %v on end beyond 32 bits", r.Streams, r.First)
	}
	return nil
}

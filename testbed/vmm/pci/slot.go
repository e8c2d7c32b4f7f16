package pci

import "slices"

// Slot is the place of a Function in a Host.
type Slot struct {
	host      *Host
	at        RequesterID // of the function, or of its port, on the root bus
	port      *port       // nil for a function of the root bus
	function  Function
	requester RequesterID
	reachable bool
	refused   bool // it lacks a claim that overlaps another
}

// claim is a range of memory that a function decodes.
type claim struct {
	Window
	slot *Slot
	bar  int
}

// identity returns the requester ID of a slot. It returns false if software assigned no bus number.
func (s *Slot) identity() (RequesterID, bool) {
	if s.port == nil {
		return s.at, true
	}
	bus := s.port.bus()
	return RequesterID(bus) << 8, bus != 0 && int(bus) < s.host.buses
}

// Claim makes the function answer for size bytes at base, behind one of its base address registers.
// It returns false if the range is outside of the windows or overlaps another claim, or if the
// register has a claim already. When a claim is released, the Host calls Decode of the functions
// whose claims were refused for an overlap. Call Claim and Release only from methods of the function.
func (s *Slot) Claim(bar int, base, size uint64) (ok bool) {
	h := s.host
	if bar < 0 || bar >= NumBARs || size == 0 {
		return false
	}
	w := Window{base, size}
	if !slices.ContainsFunc(h.windows, func(of Window) bool { return of.contains(base, size) }) {
		return false
	}
	for _, c := range h.claims {
		if c.slot == s && c.bar == bar || base < c.Base+c.Size && c.Base < base+size {
			s.refused = true
			return false
		}
	}
	h.claims = append(h.claims, claim{w, s, bar})
	return true
}

// Release undoes the Claim of a base address register. Without a claim it has no effect.
func (s *Slot) Release(bar int) {
	s.host.released = true
	s.host.claims = slices.DeleteFunc(s.host.claims, func(c claim) bool { return c.slot == s && c.bar == bar })
}

// settle calls Decode of the functions whose claims were refused, if a claim was released. A guest
// moves functions one after the other, and may place one where another still decodes.
func (h *Host) settle() {
	for h.released {
		h.released = false
		for _, s := range h.slots {
			if s != nil && s.refused {
				s.refused = false
				s.function.Decode()
			}
		}
	}
}

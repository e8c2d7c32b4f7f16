package pci

// ECAM returns the memory-mapped configuration space, 1 MiB for each bus.
func (h *Host) ECAM() ECAM { return ECAM{h} }

// ECAM is the memory-mapped configuration space of a Host.
type ECAM struct{ host *Host }

// Size returns the size in bytes.
func (e ECAM) Size() uint64 { return uint64(e.host.buses) << busShift }

// Load reads from a configuration space. It returns all ones where there is no function.
func (e ECAM) Load(off uint64, size int) uint64 {
	e.host.mu.Lock()
	defer e.host.mu.Unlock()
	s, isPort, reg := e.host.decode(off, size)
	switch {
	case s == nil:
		return allOnes(size)
	case isPort:
		return uint64(s.port.Load(reg, size))
	}
	v := s.function.LoadConfig(reg, size)
	if reg <= RegHeaderType && RegHeaderType < reg+uint32(size) && e.host.multifunction(s.at) && s.at%Functions == 0 {
		v |= multifunction << (8 * (RegHeaderType - reg))
	}
	return uint64(v)
}

// Store writes to a configuration space. It has no effect where there is no function.
func (e ECAM) Store(off uint64, size int, value uint64) { finish(e.store(off, size, value)) }

func (e ECAM) store(off uint64, size int, value uint64) (rest func()) {
	e.host.mu.Lock()
	defer e.host.mu.Unlock()
	defer e.host.settle()
	s, isPort, reg := e.host.decode(off, size)
	switch {
	case s == nil:
	case isPort:
		was := s.port.resetting()
		s.port.Store(reg, size, uint32(value))
		if s.port.resetting() && !was {
			s.function.Reset()
		}
		e.host.renumber()
	default:
		return s.function.StoreConfig(reg, size, uint32(value))
	}
	return nil
}

// finish calls the function that a store returned. The caller holds no lock.
func finish(rest func()) {
	if rest != nil {
		rest()
	}
}

// decode returns the slot of a configuration access, or nil, and whether the access is to its port.
func (h *Host) decode(off uint64, size int) (s *Slot, isPort bool, reg uint32) {
	bus, at, reg := uint8(off>>busShift), uint8(off>>functionShift), uint32(off%ConfigSize)
	if size > 4 || off%uint64(size) != 0 || off >= uint64(h.buses)<<busShift {
		return nil, false, 0
	}
	if bus == 0 {
		s = h.slots[at]
		return s, s != nil && s.port != nil, reg
	}
	for _, s := range h.slots {
		if s != nil && s.port != nil && s.reachable && at == 0 && s.port.bus() == bus {
			return s, false, reg
		}
	}
	return nil, false, 0
}

// Memory returns the register file of a window.
func (h *Host) Memory(w Window) Memory { return Memory{h, w.Base} }

// Memory is a window of a Host.
type Memory struct {
	host *Host
	base uint64
}

// Load reads from a function's memory. It returns all ones where no function has a claim.
func (m Memory) Load(off uint64, size int) uint64 {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if c, ok := m.host.claimed(m.base+off, size); ok {
		return c.slot.function.LoadMemory(c.bar, m.base+off-c.Base, size)
	}
	return allOnes(size)
}

// Store writes to a function's memory. It has no effect where no function has a claim.
func (m Memory) Store(off uint64, size int, value uint64) { finish(m.store(off, size, value)) }

func (m Memory) store(off uint64, size int, value uint64) (rest func()) {
	m.host.mu.Lock()
	defer m.host.mu.Unlock()
	if c, ok := m.host.claimed(m.base+off, size); ok {
		return c.slot.function.StoreMemory(c.bar, m.base+off-c.Base, size, value)
	}
	return nil
}

func (h *Host) claimed(addr uint64, size int) (claim, bool) {
	for _, c := range h.claims {
		if c.contains(addr, uint64(size)) {
			return c, true
		}
	}
	return claim{}, false
}

// allOnes returns the value of a read that nothing answers.
func allOnes(size int) uint64 { return ^uint64(0) >> (64 - 8*size) }

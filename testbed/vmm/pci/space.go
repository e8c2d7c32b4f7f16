package pci

// Space is the configuration space of an emulated function.
type Space struct{ config, writable [ConfigSize]byte }

// Put sets the value of size bytes at reg.
func (s *Space) Put(reg uint32, size int, value uint32) { putBytes(s.config[:], reg, size, value) }

// Allow makes the bits of mask in size bytes at reg writable.
func (s *Space) Allow(reg uint32, size int, mask uint32) { putBytes(s.writable[:], reg, size, mask) }

// Load implements Function.LoadConfig.
func (s *Space) Load(off uint32, size int) uint32 { return bytes32(s.config[:], off, size) }

// Store implements Function.StoreConfig, without a function to call.
func (s *Space) Store(off uint32, size int, value uint32) {
	for i := range uint32(size) {
		mask := s.writable[off+i]
		s.config[off+i] = s.config[off+i]&^mask | byte(value>>(8*i))&mask
	}
}

// AddCapability adds a capability to the end of the list. off is a multiple of 4 outside of the
// header. body follows the ID and the link.
func (s *Space) AddCapability(id uint8, off uint32, body []byte) {
	link := uint32(RegCapPtr)
	for _, c := range Capabilities((*[256]byte)(s.config[:])) {
		link = c.Off + 1
	}
	s.Put(RegStatus, 2, statusCapabilities)
	s.config[link] = byte(off)
	s.config[off], s.config[off+1] = id, 0
	copy(s.config[off+2:], body)
}

// AddExtended adds an extended capability of version 1 to the end of the list (§7.6.3). The first
// has the offset ExtCapabilities. body follows the header of 4 bytes.
func (s *Space) AddExtended(id uint16, off uint32, body []byte) {
	const nextShift = 20
	if off != ExtCapabilities {
		last := uint32(ExtCapabilities)
		for next := last; next != 0; next = s.Load(last, 4) >> nextShift {
			last = next
		}
		s.Put(last, 4, s.Load(last, 4)|off<<nextShift)
	}
	s.Put(off, 4, 1<<16|uint32(id))
	copy(s.config[off+4:], body)
}

func putBytes(b []byte, off uint32, size int, value uint32) {
	for i := range uint32(size) {
		b[off+i] = byte(value >> (8 * i))
	}
}

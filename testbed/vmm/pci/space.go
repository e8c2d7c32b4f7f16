package pci

// Space is a configuration space that the VMM has made up.
type Space struct{ config, writable [ConfigSize]byte }

// Put has size bytes at reg read as value, and Allow has software write the bits of mask in them.
func (s *Space) Put(reg uint32, size int, value uint32)  { putBytes(s.config[:], reg, size, value) }
func (s *Space) Allow(reg uint32, size int, mask uint32) { putBytes(s.writable[:], reg, size, mask) }

// Load is a Function's LoadConfig.
func (s *Space) Load(off uint32, size int) uint32 { return bytes32(s.config[:], off, size) }

// Store is a Function's StoreConfig.
func (s *Space) Store(off uint32, size int, value uint32) {
	for i := range uint32(size) {
		mask := s.writable[off+i]
		s.config[off+i] = s.config[off+i]&^mask | byte(value>>(8*i))&mask
	}
}

// AddCapability puts a capability with the given body, behind its ID and its link, at the end of the list, at off: a multiple of
// 4 behind the header.
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

func putBytes(b []byte, off uint32, size int, value uint32) {
	for i := range uint32(size) {
		b[off+i] = byte(value >> (8 * i))
	}
}

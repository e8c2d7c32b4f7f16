//go:build armbe || arm64be || m68k || mips || mips64 || mips64p32 || ppc || ppc64 || s390 || s390x || shbe || sparc || sparc64

package guestmem

// The build fails here on purpose: guest words are little-endian (IHI 0070 §6.2, §7.3), and the
// package uses them in place.
var _ = hostMustBeLittleEndian

// Package guestmem is guest-physical memory as a device sees it: the seam that
// a VMM fills, and what is commonly needed on either side of it.
//
// Memory is the seam. Slots carries it out over byte slices, such as the VMM's
// own mappings of the guest's RAM; FromIO over an io.ReaderAt and an
// io.WriterAt; Fake for tests, with failures at will. Snapshot takes a private
// copy of a guest structure, so that what was judged is what is used. Mapper is
// memory that can be used where it lies, within Sections, which whoever takes
// memory away waits for.
//
// Guest words are little-endian (IHI 0070 §6.2, §7.3), and so must the host
// be: hosts of the other byte order are not supported.
package guestmem

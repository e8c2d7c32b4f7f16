// Package guestmem gives devices access to guest-physical memory.
//
// # Interfaces
//
// Memory is the interface that a device uses and a VMM implements: it reads and writes bytes at a
// guest-physical address, a GPA. Two optional interfaces extend it:
//
//   - Swapper adds an atomic compare-and-swap, which hardware updates of page table descriptors
//     need.
//   - Mapper adds slices of memory that lies in this process, so that DMA needs no copy.
//
// # Implementations
//
//   - Slots is memory in byte slices, such as a VMM's mappings of the guest's RAM. Slots can be
//     added and removed while devices use the memory.
//   - Tracked wraps a Mapper and keeps a dirty log of the devices' writes, for live migration.
//   - FromIO is memory over an io.ReaderAt and an io.WriterAt, such as a file.
//   - Fake is for tests. It covers all of the address space and fails on demand.
//
// # Reading guest structures
//
// The guest can write to its memory at any time. A device therefore reads each structure once,
// checks the copy, and uses the copy. A WordMemory copies to an array that the device keeps for the
// purpose.
//
// # Removing memory
//
// A goroutine that holds a slice of a Mapper is in a read-side critical section of its Sections.
// Sections is sleepable RCU (SRCU). An updater first makes the memory unreachable, and then waits
// for the sections that began earlier.
//
// # Byte order
//
// Guest structures are little-endian (IHI 0070 §6.2, §7.3), and so is the host. The package does
// not compile for big-endian hosts.
package guestmem

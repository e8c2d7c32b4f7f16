// Package vsmmutest acts as the guest's SMMU driver in tests. It writes a driver's structures,
// submits commands to the SMMU, and reads the SMMU's events.
//
// It has two layers:
//
//   - RAM allocates guest memory. NewStage1, NewStage2, NewCDTable and NewStreamTable build the
//     architecture's structures in it. This layer needs only a guestmem.Memory. Tests of a
//     bridge.Host can use it without an SMMU.
//   - Guest adds the driver: it enables an SMMU through its registers, maps and unmaps, runs
//     commands and waits for them. It needs a RegisterFile: a vsmmu.Device, a transcript.Recorder,
//     or an adapter that sends accesses through a VMM's own bus.
//
// A test of an embedding looks like this:
//
//	g := vsmmutest.NewGuest(ram, guestmem.Range{GPA: 0x4000_0000, Len: 16 << 20}, smmu)
//	err := g.Enable()                                  // tables, queues, CR0
//	err = g.MapStage1(sid, 0x1_0000, page, 0x1000)     // CD, page tables, STE, CFGI_STE, SYNC
//	// … DMA by the device at IOVA 0x1_0000 …
//	err = g.Unmap(sid, 0x1_0000, 0x1000)               // TLBI, SYNC
//	ev, ok, err := g.Event()                           // the oldest event
//
// Functions return errors and do not depend on package testing, so any test framework can use them.
// A Guest that waits too long fails with ErrTimeout. A command that stops the queue causes a
// *CommandError.
//
// The structures are those of Linux's driver: inner shareable write-back tables, faults recorded
// and aborted. A test can change any word of them: Stage1.Entry, CDTable.Entry and
// StreamTable.Entry return the address of an entry, and RAM.Store writes to it. Sections such as
// §5.2 are in Arm's specification, IHI 0070. Sections with a letter are in the Arm Architecture
// Reference Manual, DDI 0487.
//
// To test a migration, copy the memory, restore the SMMU, call Guest.Move with both, and continue.
// The guest sees no difference: its mappings translate, and Unmap and Event work as before.
//
// None of the types may be used by two goroutines at a time.
package vsmmutest

// Package soft is a host in software: the SMMU of endpoints that the VMM itself
// emulates. A device model calls ReadAt and WriteAt of its Endpoint with the
// addresses that the guest's driver gave it, Map to have memory where it lies,
// or Load and Store for the indices of a ring; the guest's own stage 1 translates
// them, with Stage2IDs its own stage 2 as well, and what the guest got wrong comes back as the architecture's events.
//
//	host, err := soft.New(soft.Config{Memory: ram})
//	ep := soft.NewEndpoint()
//	device.Attach(sid, host, ep)     // vsmmu.Device: the guest configures it
//	err = ep.ReadAt(buf, iova)       // the device model, from any goroutine
//
// A file holds one step of a DMA's way, in this order: endpoint.go takes it
// apart into transactions, map.go and word.go the special ones; stream.go has what
// Bind made of the stream; context.go finds the Context Descriptor; tlb.go the
// translation, in one of tlbs.go; walk.go walks the tables of tables.go on a miss and
// permission.go judges what they say; stage2.go does the same for stage 2; memory.go moves the data, fault.go makes the event, and stall.go has a
// transaction wait for the guest. For endpoints that cache translations, ats.go has
// their requests and what they do with the answers, atc.go the invalidations, pri.go
// the page requests.
//
// Nothing that was withdrawn is used after Invalidate, Bind or Close returned.
// Two rules see to it. Whatever is cached carries the time at which its making
// began, on a clock that every withdrawal moves on; it counts only while it is
// younger than each withdrawal that concerns it, so a walk that was overtaken
// leaves nothing behind. And a withdrawal waits for the transactions that were
// under way when it began: they are guestmem.Sections, those of the memory where
// it has some.
package soft

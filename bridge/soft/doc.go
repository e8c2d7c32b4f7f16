// Package soft is a host in software: the SMMU of endpoints that the VMM emulates.
//
// A device model performs DMA through its Endpoint, with the addresses that the guest's driver gave
// it. ReadAt and WriteAt copy, Map returns memory in place, and Load and Store access the
// indices of a ring. The guest's own stage 1 translates the addresses, and with Stage2IDs its
// own stage 2. The guest's mistakes come back as the architecture's events.
//
//	host, err := soft.New(soft.Config{Memory: ram})
//	ep := soft.NewEndpoint()
//	device.Attach(sid, host, ep)     // vsmmu.Device: the guest configures it
//	err = ep.ReadAt(buf, iova)       // the device model, from any goroutine
//
// # The guest's view
//
// A host offers the ID registers in Config.IDs. The device shows the guest these or less, and
// tells the host by SetGuestIDs. The host then behaves as the SMMU that the guest was shown.
//
// # Reading the code
//
// The files follow a DMA on its way:
//
//	endpoint.go    splits it into transactions; map.go and word.go are the special ones
//	micro.go       finds the memory of a recent access
//	binding.go     is the stage that stream.go's Bind put into effect
//	translate.go   is the path of one transaction through the SMMU
//	cd.go          finds the Context Descriptor
//	tlb.go         finds the translation, in the VMID's part of the TLB (domains.go)
//	walk.go        walks stage 1 on a miss, by tables.go, and permission.go judges the leaf
//	stage2.go      does the same for stage 2
//	memory.go      moves the data
//	fault.go       makes the event; stall.go makes a transaction wait for the guest
//
// For endpoints that cache translations, ats.go answers translation requests, translated.go
// takes translated accesses, atc.go invalidates, and pri.go handles page requests. invalidate.go
// executes the guest's commands. config.go, host.go and ids.go hold the configuration, the host's
// life and its ID registers. refetch.go asks the device for an STE again.
//
// # Invalidation
//
// Nothing that the guest invalidated is used after Invalidate, Bind or Close returns. Two rules
// ensure it. First, a cached entry holds the time at which its making began, on a clock that
// every invalidation advances. It counts only if it is younger than each invalidation that
// concerns it, so a walk that was overtaken leaves nothing behind. Second, an invalidation waits
// for the transactions in flight when it began. Each is in a section of guestmem.Sections: the
// memory's own sections, where it has some.
//
// # Memory
//
// What a guest or an endpoint does cannot make a host grow without bound. The TLB has the size
// that Config.TLBEntries says, for all VMIDs together. A stream that translates takes about one
// KiB, and all streams together cache at most 4096 CDs and one more each.
package soft

// Package soft is a host in software: the SMMU of endpoints that the VMM emulates.
//
// A device model performs DMA through its Endpoint, with the addresses that the guest's driver gave
// it. ReadAt and WriteAt copy, Map returns memory in place, and Load and Store access the indices
// of a ring. The guest's own stage 1 translates the addresses. With Stage2IDs its own stage 2 can
// translate them, too. The host reports faults as the architecture's events.
//
//	host, err := soft.New(soft.Config{Memory: ram})
//	ep := soft.NewEndpoint()
//	device.Attach(sid, host, ep)     // vsmmu.Device: the guest configures it
//	err = ep.ReadAt(buf, iova)       // the device model, from any goroutine
//
// # The guest's view
//
// A host offers the ID registers in Config.IDs. The guest reads these registers or lower ones, and
// the device passes the guest's registers to SetGuestIDs. The host then behaves as the SMMU that
// they describe.
//
// # Reading the code
//
// The files follow the path of a DMA:
//
//	endpoint.go    splits it into transactions; map.go, word.go and vec.go are the special ones
//	micro.go       finds the memory of a recent access
//	binding.go     is the stage that stream.go's Bind put into effect
//	translate.go   is the path of one transaction through the SMMU
//	cd.go          finds the Context Descriptor
//	tlb.go         finds the translation, in the VMID's part of the TLB (domains.go)
//	walk.go        walks stage 1 on a miss, by tables.go, and permission.go judges the leaf
//	tablecache.go  lets a walk begin at a table that an earlier walk found
//	stage2.go      walks stage 2
//	run.go         translates the further pages of a large DMA
//	memory.go      moves the data
//	fault.go       makes the event; stall.go makes a transaction wait for the guest
//
// For endpoints that cache translations, ats.go answers translation requests, translated.go
// executes translated accesses, atc.go invalidates, and pri.go handles page requests. invalidate.go
// executes the guest's commands. config.go, host.go and ids.go hold the configuration, the host
// itself and its ID registers. refetch.go asks the device for an STE again. stats.go counts.
//
// # Invalidation
//
// After Invalidate, Bind or Close returns, the host uses nothing that the guest invalidated. Two
// rules ensure this. First, a cached entry holds the time at which its fetch or walk began, on a
// clock that every invalidation advances. The entry is valid only if it is younger than each
// invalidation that concerns it. A walk that an invalidation overtakes thus leaves no valid entry.
// Cached tables are valid until an invalidation that applies to table descriptors: of everything,
// of the ASID, or by address with Leaf = 0.
// Second, an invalidation waits for the transactions that are in flight when it begins. Each
// transaction is in a section of guestmem.Sections. These are the memory's own sections, if it has
// any.
//
// # Memory
//
// Neither a guest nor an endpoint can make a host grow without bound. The TLB has the size of
// Config.TLBEntries, for all VMIDs together. A stream that translates takes about one KiB. All
// streams together cache at most 4096 CDs, and one more for each stream.
package soft

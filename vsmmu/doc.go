// Package vsmmu is a virtual SMMUv3: a device that a guest's own driver programs as if it were
// hardware, and that makes a host execute what the guest configures.
//
// A VMM makes one Device per guest SMMU with New. The guest's loads and stores in the 128 KiB of
// registers go to Load and Store. Attach puts each of the guest's devices behind the SMMU, by its
// StreamID: passed-through devices on a bridge/iommufd host, devices that the VMM emulates on a
// bridge/soft host. Package vsmmu/idr derives the ID registers, and package firmware describes the
// SMMU to the guest.
//
// Sections cited as "§6.3.9" are of Arm's SMMUv3 specification, IHI 0070.
//
// # Duties of the embedder
//
//  1. Memory. Config.Memory holds the guest's tables and queues, and keeps the atomicity that
//     guestmem.Memory promises. It may be called from any goroutine.
//  2. Interrupts. Config.Interrupts signals edges and MSIs to the guest. It does not wait for the
//     guest.
//  3. MMIO. Each access of a vCPU in the register pages becomes one call of Load or Store, with
//     the size that the guest used. Accesses of one vCPU keep their order. LoadBytes and
//     StoreBytes take an access as bytes.
//  4. Attach order. Make the hosts, derive the ID registers from their Capabilities, make the
//     Device, then attach the endpoints. A host belongs to one Device: another one's Attach fails
//     with bridge.ErrInUse. An endpoint may be attached or detached while the guest runs. Its
//     StreamID is the one that firmware tells the guest.
//  5. Reset order. Stop the vCPUs, reset the endpoints, then call Reset. Without
//     Config.AbortAtReset, DMA bypasses stage 1 from then on.
//  6. Save order. Stop the vCPUs and the endpoints, then call Save, then copy the last of the
//     guest's memory. On the other side: memory first, then New with the saved ID registers
//     (SavedIDs), then Attach for each stream, then Restore, then the vCPUs. Config.Dirty reports
//     what the device itself writes to memory.
//  7. Close order. Stop the vCPUs, then close the Device, then its hosts. The first Close ends the
//     device. Any later one has no effect and returns an error that matches ErrClosed.
//  8. Callbacks. The device calls Memory, Interrupts, the functions of Config and the hosts on the
//     goroutine of the caller, a vCPU or an endpoint, or on its own worker, with its locks held.
//     No callback may call a method of the Device other than Load, IDs and Stats, nor wait for a
//     goroutine that does. Set Config.CheckReentry in tests: a callback that breaks this rule then
//     panics, where it would otherwise hang.
//  9. Locks. The caller of Attach, Detach, Reset, Save, Restore, GuestWrote or Close holds no lock
//     that a host, an endpoint or a callback needs to make progress: these methods wait for the
//     hosts, and the hosts for in-flight DMA. Load waits for nothing, and Store for no host,
//     except as Device describes for CMDQ_PROD.
//  10. Errors. An error of a method names the operation, its object and the cause: "vsmmu: attach
//     stream 0x20: endpoint in use". Match it with errors.Is against the errors of this package
//     and of package bridge. What the guest does wrong never is an error: the architecture says
//     what the guest then sees. Errors that no caller gets go to Config.Log and Device.Stats.
//     After ErrServiceFailure only Reset helps.
//
// # Stability
//
// Before v1, a minor version may change the API, and the CHANGELOG says how. A patch version does
// not. The encoding of Save has a version of its own: Restore reads what the same minor version
// wrote, and refuses what it does not know. What a guest sees of the same ID registers changes only
// to follow the specification.
package vsmmu

// Package vsmmu is a virtual SMMUv3. A guest's own driver programs it like hardware. The device
// makes hosts execute the guest's configuration.
//
// A VMM makes one Device per guest SMMU with New. The VMM forwards the guest's accesses to the
// 128 KiB of registers to Load and Store. Attach puts each of the guest's devices behind the SMMU,
// by its StreamID: passed-through devices on a bridge/iommufd host, devices that the VMM emulates
// on a bridge/soft host. Package vsmmu/idr derives the ID registers, and package firmware describes
// the SMMU to the guest. A VMM whose devices are all emulated gets these parts by one call of the
// module's root package, vsmmuv3.
//
// Sections such as §6.3.9 refer to Arm's SMMUv3 specification, IHI 0070.
//
// # Duties of the embedder
//
//  1. Memory. Config.Memory holds the guest's tables and queues, with the atomicity that
//     guestmem.Memory describes. The device calls it from any goroutine.
//  2. Interrupts. Config.Interrupts signals edges and MSIs to the guest, and does not wait for the
//     guest. SPIs and EventFDs return Interrupts for the usual ways.
//  3. MMIO. Call Load or Store once for each access of a vCPU to the register pages, with the
//     access's size. Keep the order of one vCPU's accesses. LoadBytes and StoreBytes take an access
//     as bytes.
//  4. Attach order. Make the hosts, derive the ID registers from their Capabilities, make the
//     Device, then attach the endpoints. An endpoint has the StreamID of the firmware's
//     description. Endpoints may be attached and detached while the guest runs. A host belongs to
//     one Device: Attach to another one fails with bridge.ErrInUse.
//  5. Reset order. Stop the vCPUs, reset the endpoints, then call Reset. Without
//     Config.AbortAtReset, DMA bypasses stage 1 from then on.
//  6. Save order. Stop the vCPUs and the endpoints, call Save, then copy the guest's memory: Save
//     may still write to it. On the destination, copy the memory first. Then call New with the ID
//     registers that SavedIDs returns, Attach for each stream, and Restore. Then start the vCPUs.
//  7. Live migration. Use a guestmem.Tracked as Config.Memory and as the memory of soft hosts: its
//     accounts have the device's writes and the DMA of soft endpoints. Its documentation lists the
//     rounds. A VMM with a dirty log of its own sets Config.Dirty for the device's writes.
//  8. Close order. Stop the vCPUs, close the Device, then close its hosts. The first Close ends the
//     device. Any later one has no effect and returns an error that matches ErrClosed.
//  9. Callbacks. The device calls Memory, Interrupts, the functions of Config and the hosts with
//     its locks held: on its worker, or on the goroutine of a vCPU, an endpoint or a caller. A
//     callback may call no method of the Device except Load and IDs, and make no DMA by an
//     endpoint behind the Device. It must not wait for a goroutine that does either. Set
//     Config.CheckReentry in tests: a callback that calls a method then panics instead of hanging.
//     CheckReentry does not detect DMA.
//  10. Locks. Attach, Detach, Stage, Stats, Reset, Save, Restore, GuestWrote and Close wait for the
//     hosts, and the hosts wait for in-flight DMA. Their caller must not hold a lock that a host, an
//     endpoint or a callback takes. Load never waits. Store waits for a host only as Device
//     describes for CMDQ_PROD.
//
// # Errors
//
// An error names the operation, its object and the cause: "vsmmu: attach stream 0x20: endpoint in
// use". Match it with errors.Is against the errors of this package and of packages bridge and idr.
//
//   - After ErrConfig, ErrNotAttached, ErrNotReset, ErrState, ErrClosed or ErrAccess, and after any
//     error of Attach, the call has had no effect.
//   - Any other error of Detach, Reset, Restore or Close is a host's. The method has finished, and
//     its documentation says which streams abort. The guest may continue.
//   - ErrServiceFailure means that the device made all streams abort and stopped the queues, until
//     a Reset succeeds.
//
// A guest's mistake is never an error of a method, except for ErrAccess: the guest sees the
// consequence that the architecture defines. Errors that no method returns go to Config.Log, and
// Device.Stats counts them.
//
// # Stability
//
// Before v1, a minor version may change the API, and the CHANGELOG lists the changes. A patch
// version does not change it. The encoding of Save has a version of its own: Restore accepts states
// of the same minor version, and refuses a version that it does not know. The behaviour that a
// guest sees with the same ID registers changes only to follow the specification.
package vsmmu

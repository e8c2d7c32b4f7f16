// Package edu is a PCI function that makes DMA as its driver orders it, for tests of an SMMU. A
// driver of QEMU's edu device drives it as well: it has the same IDs and registers.
//
// A function makes its DMA through a soft.Endpoint. The caller attaches that to a vsmmu.Device:
//
//	f, err := edu.New(edu.Config{Features: edu.Features{PASIDBits: 20, ATS: true, PRI: true, FLR: true}})
//	err = host.AddFunction(2, 0, f, f.Connect)        // pci.Host
//	err = device.Attach(sid, softHost, f.Endpoint())  // vsmmu.Device
//
// Package regs describes the registers.
//
// # DMA
//
// A DMA is a transaction for each page of 4 KiB, or smaller ones (register Chunk). If one fails,
// the others follow nevertheless, as in QEMU's edu. Registers of a DMA ignore stores until it ends.
// QEMU's edu needs 100 ms for a DMA; this one needs no longer than its transactions do.
//
// # Enables
//
// A function uses a PASID, ATS or PRI only if the driver has enabled it in the configuration space,
// and makes no DMA without Bus Master Enable. The attribute Force makes it a broken device, which
// looks at Bus Master Enable alone.
//
// # Reset
//
// A reset, function-level resets included, ends what runs, terminates what is stalled, and forgets
// everything: registers, translations, page requests, interrupts. The memory of the device (Buffer)
// stays.
//
// # Limits
//
// One DMA or command runs at a time. The ATC holds 64 translations, and at most 32 page request
// groups wait for their response. A log holds the first 64 invalidations, and another the first 64
// responses, that the driver has not removed.
package edu

// Package firmware tells a guest about the device: what the drivers of the SMMU and of the devices behind it look for, in a
// device tree or in ACPI.
//
// Nodes and properties of a device tree are values of u-root's pkg/dt, for the embedder to put into its own tree: SMMUNode,
// MasterProperties for platform devices, PCIHostNode, and ReservedMemoryNode for what devices that are passed through need to
// send messages. The ACPI table, IORT, comes whole.
package firmware

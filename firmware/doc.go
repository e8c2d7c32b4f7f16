// Package firmware describes a virtual SMMUv3, and the devices behind it, to the guest.
//
// A guest finds its SMMU in a device tree or in ACPI's IORT. This package generates both:
//
//   - SMMUNode, PCIHostNode and ReservedMemoryNode return device tree nodes. MasterProperties
//     returns the properties that put a platform device behind an SMMU, and PCIMasterProperties
//     those for a PCI host bridge that the VMM describes itself.
//   - IORT.Table returns the IORT, ready to install.
//
// Nodes and properties are plain data: a Node has a name, Props and Children, and a Prop has a name
// and bytes. The bytes are those of a flattened device tree, so any FDT library can use them.
// Package firmware/urootdt converts them for github.com/u-root/u-root/pkg/dt.
//
// Every function checks its argument. An error names the invalid field.
package firmware

// Package pci implements a PCI Express host bridge (device tree binding pci-host-ecam-generic) with
// root ports. For functions behind it, it has base address registers, capability lists and the
// MSI-X table.
//
// Sections such as §7.5.1 are of the PCI Express Base Specification, 6.0.
package pci

// Package pci is a PCI Express host bridge as the binding pci-host-ecam-generic describes it, with root ports, and the parts
// that functions behind it are made of: base address registers, lists of capabilities, the MSI-X table.
//
// Nothing here is bound to an operating system. Sections cited as "§7.5.1" are of the PCI Express Base Specification, 6.0.
package pci

// Package acpi writes ACPI tables and the AML of a machine that has no firmware: what a VMM needs to
// describe an arm64 machine (ACPI 6.5, and the tables that Arm's BBR requires).
//
// FADT, MADT, GTDT, SPCR and MCFG return a Table each, and DSDT one whose AML is made of Terms. A
// Set places tables in memory behind an RSDP and links them. Package firmware of the library makes
// the IORT.
//
// All multi-byte fields are little-endian.
package acpi

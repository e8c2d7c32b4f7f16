// Package acpi writes the ACPI tables and the AML by which a VMM describes an arm64 machine without
// firmware (ACPI 6.5, and the tables that Arm's BBR requires).
//
// FADT, MADT, GTDT, SPCR and MCFG return a Table each. DSDT returns a Table with the AML of Terms.
// A Set places tables in memory behind an RSDP and links them. Package firmware of the library
// makes the IORT.
//
// All multi-byte fields are little-endian.
package acpi

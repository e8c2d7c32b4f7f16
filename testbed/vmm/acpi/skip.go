package acpi

// SkipNoIASL is the reason to skip a test of tables that needs the ACPI compiler. A machine that has
// none by design, such as those of the lab, accepts it.
const SkipNoIASL = "NOT RUN: there is no iasl: install acpica-tools"

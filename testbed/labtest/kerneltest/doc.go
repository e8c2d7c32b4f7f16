// Package kerneltest tests bridge/iommufd on a real kernel.
//
// Its tests run inside the lab's machines, where the test binary is the init; anywhere else they
// skip. TestKernel* need an SMMU that nests and edu devices; the other tests say in their names
// which machine they need. make lab runs them all.
package kerneltest

// SkipQEMU begins the message with which a test is skipped because QEMU's SMMU or edu device lacks
// something.
const SkipQEMU = "QEMU: "

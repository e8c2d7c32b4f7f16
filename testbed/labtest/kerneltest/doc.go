// Package kerneltest tests bridge/iommufd on a real kernel.
//
// Its tests run inside the lab's machines, where the test binary is the init. Outside the lab they
// skip. TestKernel* need edu devices and an SMMU with nested stages. TestLinux* use iommufd
// themselves and need this project's SMMU. The names of the other tests say which machine they
// need. make lab runs all tests.
package kerneltest

// SkipQEMU begins the message with which a test is skipped because QEMU's SMMU or edu device lacks
// something.
const SkipQEMU = "QEMU: "

// SkipLinux begins the message with which a test is skipped because Linux refuses something. The
// message ends with the error.
const SkipLinux = "Linux: "

// Package uapi mirrors the part of Linux's user interface to iommufd and VFIO devices that package
// iommufd uses: requests and their structures. It has no behaviour.
//
// The sources are include/uapi/linux/iommufd.h and include/uapi/linux/vfio.h of Linux 7.3. Names
// are the kernel's in Go's spelling. Padding and unused fields have no name. The structures are for
// 64-bit machines: a pointer replaces the kernel's u64.
package uapi

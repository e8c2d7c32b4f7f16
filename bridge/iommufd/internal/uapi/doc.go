// Package uapi is the part of Linux's interface to iommufd and to VFIO devices that package iommufd uses: the requests
// and their structures, and no behaviour.
//
// It mirrors include/uapi/linux/iommufd.h and include/uapi/linux/vfio.h of Linux 7.3. Names are the kernel's, in Go's
// spelling; padding and what is never used has none. Structures are those of 64-bit machines, where a pointer is as wide
// as the u64 that the kernel takes it in.
package uapi

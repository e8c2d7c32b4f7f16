//go:build linux && (amd64 || arm64)

package iommufd

import (
	"testing"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/bridge/iommufd/internal/uapi"
)

// System calls on a file that is not a VFIO device return errnos. Each errno has a row in the table
// of advice.
func TestLinux_errors_are_errnos(t *testing.T) {
	var sys linux
	_, err := sys.open("/nonexistent")
	assert.Equal(t, unix.ENOENT, err)
	fd, err := sys.open("/dev/null")
	require.NoError(t, err)
	arg := uapi.Destroy{Size: uapi.SizeOf[uapi.Destroy](), ID: 1}
	assert.Equal(t, unix.ENOTTY, sys.ioctl(fd, uapi.IOMMUDestroy, unsafe.Pointer(&arg)))
	_, err = sys.group(fd)
	assert.Error(t, err, "it has no IOMMU group")
	require.NoError(t, sys.close(fd))

	const none = 1 << 20 // no descriptor
	assert.Equal(t, unix.EBADF, sys.close(none))
	assert.Equal(t, unix.EBADF, sys.ioctl(none, uapi.IOMMUDestroy, unsafe.Pointer(&arg)))
	_, err = sys.group(none)
	assert.Equal(t, unix.EBADF, err)
	_, err = sys.queue(none)
	assert.ErrorIs(t, err, unix.EBADF)
}

//go:build linux && (amd64 || arm64)

package iommufd

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFindDevice(t *testing.T) {
	devices := t.TempDir()
	mkdir := func(elem ...string) {
		require.NoError(t, os.MkdirAll(filepath.Join(append([]string{devices}, elem...)...), 0o755))
	}
	mkdir("0000:00:02.0", "vfio-dev", "vfio3")
	path, err := findDevice(devices, "0000:00:02.0")
	require.NoError(t, err)
	assert.Equal(t, "/dev/vfio/devices/vfio3", path)

	mkdir("0000:00:03.0")
	require.NoError(t, os.Symlink("../../../bus/pci/drivers/nvme", filepath.Join(devices, "0000:00:03.0", "driver")))
	_, err = findDevice(devices, "0000:00:03.0")
	assert.ErrorContains(t, err, "the driver nvme")
	assert.ErrorContains(t, err, "driver_override")

	mkdir("0000:00:05.0")
	require.NoError(t, os.WriteFile(filepath.Join(devices, "0000:00:05.0", "driver_override"), []byte("vfio-pci\n"), 0o600))
	_, err = findDevice(devices, "0000:00:05.0")
	assert.ErrorContains(t, err, "see dmesg; -22 means the IOMMU is not cache-coherent")

	_, err = findDevice(devices, "0000:00:04.0")
	assert.ErrorIs(t, err, fs.ErrNotExist)
	for _, address := range []string{"", "..", "../0000:00:02.0", "0000:00:02.0/"} {
		_, err = findDevice(devices, address)
		assert.ErrorContains(t, err, "is not a PCI address")
	}
}

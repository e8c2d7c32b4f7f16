package vm

import (
	"fmt"
	"os"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
)

// diskSize is the size of each disk's backing file.
const diskSize = 32 << 20

// DiskSpace is the size of the backing files of all disks.
const DiskSpace = 3 * diskSize

// newBacking returns a file of zeros without a name, so that no file is left when this process ends
// in any way.
func newBacking() (*os.File, error) {
	f, err := os.CreateTemp("", "vsmmu-disk-")
	if err != nil {
		return nil, fmt.Errorf("a disk's backing file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, fmt.Errorf("a disk's backing file: %w", err)
	}
	if err := f.Truncate(diskSize); err != nil {
		f.Close()
		return nil, fmt.Errorf("a disk's backing file: %w", err)
	}
	return f, nil
}

// verify returns how many of the first size bytes of a backing file are the guest's pattern.
func verify(f *os.File, serial string, size int64) (int64, error) {
	const chunk = 1 << 20
	pattern, buf := guest.PatternFor(serial), make([]byte, chunk)
	for off := int64(0); off < size; off += chunk {
		if _, err := f.ReadAt(buf, off); err != nil {
			return off, fmt.Errorf("the backing file: %w", err)
		}
		if err := pattern.Check(buf, off); err != nil {
			return off, fmt.Errorf("the backing file: %w", err)
		}
	}
	return size, nil
}

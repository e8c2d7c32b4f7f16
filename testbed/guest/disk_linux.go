package guest

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// chunk is the size of a request to the kernel. It is large enough for chains of many segments.
const chunk = 1 << 20

// testDisk writes size bytes of the disk's pattern with O_DIRECT, reads it back and compares. Unless
// size is less than TestSize, it then moves data by mappings that fill a translation table. With
// rebind it then unbinds the disk from its driver and binds it again.
func testDisk(serial, name string, size int64, rebind bool) Disk {
	d := Disk{Serial: serial, Name: name, IOMMU: groupType(name)}
	pattern := PatternFor(serial)
	err := d.test(pattern, size)
	if err == nil && size >= TestSize {
		err = d.fillTable(pattern)
	}
	if err == nil && rebind {
		err = d.rebind(pattern)
	}
	if err != nil {
		d.Error = err.Error()
	}
	return d
}

// test writes size bytes from the start and reads them back.
func (d *Disk) test(pattern Pattern, size int64) error {
	f, err := os.OpenFile("/dev/"+d.Name, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	buf, err := directBuffer(chunk)
	if err != nil {
		return err
	}
	defer unix.Munmap(buf)
	for off := int64(0); off < size; off += chunk {
		pattern.Fill(buf, off)
		if _, err := f.WriteAt(buf, off); err != nil {
			return err
		}
		d.Written += chunk
	}
	if err := f.Sync(); err != nil {
		return err
	}
	d.Read, d.Verified, err = readBack(f, buf, pattern, size)
	return err
}

// readBack reads size bytes from the start. It returns the number of bytes read, and the number of
// correct bytes among them.
func readBack(f io.ReaderAt, buf []byte, pattern Pattern, size int64) (read, verified int64, err error) {
	for off := int64(0); off < size; off += chunk {
		// A read that moves nothing must not leave the earlier bytes in the buffer.
		clear(buf)
		if _, err := io.ReadFull(io.NewSectionReader(f, off, chunk), buf); err != nil {
			return read, verified, err
		}
		read += chunk
		if err := pattern.Check(buf, off); err != nil {
			return read, verified, err
		}
		verified += chunk
	}
	return read, verified, nil
}

// groupType returns the domain type that the kernel chose for a disk, or "" if there is none. It is
// the type of the IOMMU group of the disk's SMMU master.
func groupType(disk string) string {
	dir, err := masterOf(disk)
	if err != nil {
		return ""
	}
	kind, err := os.ReadFile(dir + "/iommu_group/type")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(kind))
}

// masterOf returns the sysfs directory of a disk's SMMU master: the device on its transport's bus.
func masterOf(disk string) (string, error) {
	// /sys/block/vda/device is the virtio device. Its parent is the master.
	device, err := filepath.EvalSymlinks("/sys/block/" + disk + "/device")
	return filepath.Dir(device), err
}

// directBuffer returns a buffer that is aligned to a page, as O_DIRECT requires.
func directBuffer(size int) ([]byte, error) {
	buf, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return nil, fmt.Errorf("mmap: %w", err)
	}
	return buf, nil
}

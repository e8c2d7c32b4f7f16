package guest

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
	"golang.org/x/sys/unix"
)

// lose makes the host remove the NVMe disk during a read. When the disk is gone, lose removes its
// PCI function, as hot-plug does, and tests the emulated disk.
func (l *labInit) lose() error {
	if err := l.send(LabMessage{Begin: "lose the NVMe disk during a read"}); err != nil {
		return err
	}
	dir, err := waitForNVMe()
	if err != nil {
		return err
	}
	begun, lost := make(chan struct{}), make(chan LabLost, 1)
	go func() { lost <- readUntilLost(begun) }()
	select {
	case <-begun:
	case early := <-lost:
		return fmt.Errorf("read the NVMe disk: %s", early.Error)
	}
	if err := l.ask(AskRemoval); err != nil {
		return err
	}
	config, err := os.Open(dir + "/config")
	if err != nil {
		return err
	}
	defer config.Close()
	if !pid1.WaitFor(deviceTimeout, func() bool {
		var id [2]byte
		_, err := config.ReadAt(id[:], 0)
		return err == nil && id == [2]byte{0xff, 0xff} // what a read of an absent function returns
	}) {
		return errors.New("the NVMe disk is still present after its removal")
	}
	if err := write(dir+"/remove", "1"); err != nil {
		return err
	}
	select {
	case m := <-lost:
		return errors.Join(l.testVirtio(&m.Virtio), l.send(LabMessage{Lost: &m}))
	case <-time.After(deviceTimeout):
		return errors.New("a read of the removed NVMe disk does not end")
	}
}

// readUntilLost reads the NVMe disk until a read fails. It closes begun after the first read.
func readUntilLost(begun chan<- struct{}) (lost LabLost) {
	fail := func(err error) LabLost { lost.Error = err.Error(); return lost }
	f, err := os.OpenFile("/dev/"+nvmeDisk, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return fail(err)
	}
	defer f.Close()
	buf, err := directBuffer(chunk)
	if err != nil {
		return fail(err)
	}
	defer unix.Munmap(buf)
	for {
		n, err := f.ReadAt(buf, lost.Bytes%TestSize)
		if err != nil {
			return fail(err)
		}
		if lost.Bytes == 0 {
			close(begun)
		}
		lost.Bytes += int64(n)
	}
}

// testVirtio tests the emulated disk again, with the last step's pattern.
func (l *labInit) testVirtio(d *Disk) error {
	names, err := waitForDisks(LabVirtio)
	if err != nil {
		return err
	}
	*d = Disk{Serial: LabVirtio, Name: names[LabVirtio], IOMMU: groupType(names[LabVirtio])}
	last := LabSteps[len(LabSteps)-1]
	if err := d.test(LabPattern(LabVirtio, last), LabSize(last)); err != nil {
		d.Error = err.Error()
	}
	return nil
}

package guest

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// measure reads the NVMe disk with the kernel's default, strict invalidation, and with an identity
// domain, as iommu.passthrough=1 chooses it. It alternates between the two, so that other load on
// the machine affects both equally.
func (l *labInit) measure() error {
	strict := nvmeGroup()
	translate := func(kind string) error {
		return unbound(func(dir string) error { return write(dir+"/iommu_group/type", kind) })
	}
	for range readTurns {
		if err := l.read(ReadStrict); err != nil {
			return err
		}
		if err := translate(DomainIdentity); err != nil {
			return err
		}
		if err := l.read(ReadBypass); err != nil {
			return err
		}
		if err := translate(strict); err != nil {
			return err
		}
	}
	return l.step(StepDomain)
}

const (
	readTurns = 4
	readSize  = 32 << 20 // of each turn
	// readBlock is the largest request that Linux makes to a disk whose DMA it maps. With an
	// identity domain requests could be larger, and the reads would differ.
	readBlock = 128 << 10
	// readUnaligned bytes are read to a buffer that starts in the middle of a page. A request then
	// has one page more than a TLBI range covers (IHI 0070 §4.4.1.1), and the kernel sends two
	// TLBIs before its CMD_SYNC.
	readUnaligned = 4 << 20
	halfPage      = 2 << 10
)

// read reads the NVMe disk and sends the time of the aligned reads.
func (l *labInit) read(what string) error {
	if _, err := waitForNVMe(); err != nil {
		return err
	}
	if err := l.send(LabMessage{Begin: what}); err != nil {
		return err
	}
	f, err := os.OpenFile("/dev/"+nvmeDisk, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	mem, err := directBuffer(2 * readBlock)
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	clear(mem) // allocates the pages before the measurement
	blocks := func(buf []byte, size int64) error {
		for off := int64(0); off < size; off += readBlock {
			if _, err := f.ReadAt(buf, off); err != nil {
				return err
			}
		}
		return nil
	}
	start := time.Now()
	if err := blocks(mem[:readBlock], readSize); err != nil {
		return err
	}
	took := time.Since(start)
	if err := blocks(mem[halfPage:][:readBlock], readUnaligned); err != nil {
		return err
	}
	return l.send(LabMessage{Read: &LabRead{IOMMU: nvmeGroup(), Bytes: readSize, Seconds: took.Seconds()}})
}

package guest

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
	"golang.org/x/sys/unix"
)

// Bench is the guest's whole user space in the benchmark: it measures reads, prints the result, and
// powers off.
func Bench() error {
	result, err := bench()
	if err != nil {
		result.Error = err.Error()
	}
	return errors.Join(err, say(result.String()), pid1.PowerOff())
}

// say prints a line on the console through the kernel's log, so that no message of the kernel
// interrupts the line. The console shows an alert at any log level.
func say(line string) error { return os.WriteFile("/dev/kmsg", []byte("<1>"+line), 0) }

func bench() (r BenchResult, err error) {
	if err := errors.Join(pid1.Mount(), pid1.LoadModules()); err != nil {
		return r, err
	}
	hello, err := sayHello()
	if err != nil {
		return r, err
	}
	r.Hello = *hello
	if err := waitForSMMU(true); err != nil {
		return r, err
	}
	names, err := waitForDisks(BenchDisk)
	if err != nil {
		return r, err
	}
	name := names[BenchDisk]
	r.IOMMU = groupType(name)
	f, err := os.OpenFile("/dev/"+name, os.O_RDONLY|unix.O_DIRECT, 0)
	if err != nil {
		return r, err
	}
	defer f.Close()
	for _, b := range benchmarks {
		if err := say(fmt.Sprintf("vsmmu: reading the disk in blocks of %d KiB", b.blockSize>>10)); err != nil {
			return r, err
		}
		best := time.Duration(0)
		for range benchRounds {
			took, err := timeRead(f, b.blockSize, b.bytes)
			if err != nil {
				return r, err
			}
			if best == 0 || took < best {
				best = took
			}
		}
		r.Reads = append(r.Reads, BenchRead{b.blockSize, b.bytes, best.Seconds()})
	}
	return r, nil
}

// timeRead reads a number of bytes from the start, block by block, and returns the time.
func timeRead(f *os.File, blockSize int, bytes int64) (time.Duration, error) {
	buf, err := directBuffer(blockSize)
	if err != nil {
		return 0, err
	}
	defer unix.Munmap(buf)
	// This allocates the pages before the measurement.
	PatternFor(BenchDisk).Fill(buf, 0)
	start := time.Now()
	for off := int64(0); off < bytes; off += int64(blockSize) {
		if _, err := f.ReadAt(buf, off); err != nil {
			return 0, err
		}
	}
	took := time.Since(start)
	if err := PatternFor(BenchDisk).Check(buf, bytes-int64(blockSize)); err != nil {
		return 0, fmt.Errorf("check the last block: %w", err)
	}
	return took, nil
}

package guest

import (
	"errors"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
)

// strayAddress is not mapped: Linux allocates IOVAs from 4 GiB downwards.
const strayAddress = 0x1bad_0000

// stray makes the NVMe disk fetch a command from an address that is not mapped.
func (l *labInit) stray() error {
	if err := l.send(LabMessage{Begin: "make an unmapped DMA with the NVMe disk"}); err != nil {
		return err
	}
	before, err := kernelLines(smmuDriver)
	if err != nil {
		return err
	}
	var said []string
	err = unbound(func(dir string) error {
		if err := strayDMA(dir); err != nil {
			return err
		}
		said, err = faultsAfter(len(before), true)
		return errors.Join(err, write(dir+"/reset", "1"))
	})
	if err != nil {
		return err
	}
	if err := l.send(LabMessage{Stray: &LabStray{Address: strayAddress, Kernel: said}}); err != nil {
		return err
	}
	return l.step(StepStray)
}

// Registers of an NVMe controller (NVM Express Base Specification 2.0, §3.1.3).
const (
	nvmeConfig   = 0x14 // CC
	nvmeStatus   = 0x1c // CSTS
	nvmeSizes    = 0x24 // AQA
	nvmeCommands = 0x28 // ASQ
	nvmeAnswers  = 0x30 // ACQ
	nvmeDoorbell = 0x1000

	nvmeEnable  = 1<<0 | 6<<16 | 4<<20 // EN, IOSQES 6, IOCQES 4
	nvmeReady   = 1 << 0
	nvmeEntries = 31 // of each admin queue, minus 1
)

// strayDMA enables the controller with its admin queues at strayAddress, and rings the doorbell.
func strayDMA(dir string) error {
	config, err := os.OpenFile(dir+"/config", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer config.Close()
	const command, memoryAndMaster = 4, 1<<1 | 1<<2
	if _, err := config.WriteAt([]byte{memoryAndMaster, 0}, command); err != nil {
		return err
	}
	bar, err := os.OpenFile(dir+"/resource0", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer bar.Close()
	mem, err := unix.Mmap(int(bar.Fd()), 0, nvmeDoorbell+4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	defer unix.Munmap(mem)
	register := func(off int) *uint32 { return (*uint32)(unsafe.Pointer(&mem[off])) }
	store := func(off int, value uint32) { atomic.StoreUint32(register(off), value) }
	ready := func(want uint32) bool {
		return pid1.WaitFor(
			deviceTimeout,
			func() bool { return atomic.LoadUint32(register(nvmeStatus))&nvmeReady == want },
		)
	}
	// The driver has shut the controller down without disabling it.
	store(nvmeConfig, 0)
	if !ready(0) {
		return errors.New("the NVMe controller stays ready after CC.EN = 0")
	}
	store(nvmeSizes, nvmeEntries<<16|nvmeEntries)
	store(nvmeCommands, strayAddress)
	store(nvmeCommands+4, 0)
	store(nvmeAnswers, strayAddress+0x1000)
	store(nvmeAnswers+4, 0)
	store(nvmeConfig, nvmeEnable)
	if !ready(nvmeReady) {
		return errors.New("the NVMe controller does not become ready")
	}
	store(nvmeDoorbell, 1)
	return nil
}

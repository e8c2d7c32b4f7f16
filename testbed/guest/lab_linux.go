package guest

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
	"golang.org/x/sys/unix"
)

// Lab is the guest's whole user space in the lab. It returns, and the kernel panics of that, where that is to be.
func Lab() error {
	end, err := lab()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vsmmu: guest:", err)
	}
	switch end {
	case EndCrash:
		return errors.New("this crash is part of the lab")
	case EndReboot:
		unix.Sync()
		return unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	}
	return errors.Join(err, pid1.PowerOff())
}

func lab() (end string, err error) {
	if err := pid1.Mount(); err != nil {
		return "", err
	}
	channel, err := openControl()
	if err != nil {
		return "", err
	}
	l := &labInit{channel}
	if end, err = l.run(); err == nil {
		err = l.send(LabMessage{End: end})
	}
	if err != nil {
		return "", errors.Join(err, l.send(LabMessage{Error: err.Error()}))
	}
	return end, nil
}

type labInit struct{ *control }

func (l *labInit) send(m LabMessage) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return l.sendLine(line)
}

// ask has the VMM do something, and waits for it.
func (l *labInit) ask(what string) error {
	return errors.Join(l.send(LabMessage{Ask: what}), l.waitDone())
}

// run is a boot.
func (l *labInit) run() (end string, err error) {
	hello, err := sayHello()
	if err != nil {
		return "", err
	}
	if err := l.send(LabMessage{Hello: hello}); err != nil {
		return "", err
	}
	boot, err := l.receive()
	if err != nil {
		return "", err
	}
	if err := waitForSMMU(false); err != nil {
		return "", err
	}
	switch boot {
	case "1":
		return EndReboot, errors.Join(l.step(StepFirst), l.rebind(), l.reset(), l.renumber(), l.lines(), l.measure(), l.stray())
	case "2":
		return EndCrash, l.step(StepReboot)
	case "3":
		return EndPowerOff, errors.Join(l.takenOver(), l.lose())
	}
	return "", fmt.Errorf("the VMM said %q instead of the number of the boot", boot)
}

// step writes and reads both disks.
func (l *labInit) step(step string) error {
	if err := l.send(LabMessage{Begin: step}); err != nil {
		return err
	}
	names, err := waitForDisks(LabVirtio)
	if err != nil {
		return err
	}
	if _, err := waitForNVMe(); err != nil {
		return err
	}
	for _, d := range []Disk{
		{Serial: LabVirtio, Name: names[LabVirtio], IOMMU: groupType(names[LabVirtio])},
		{Serial: LabNVMe, Name: nvmeDisk, IOMMU: nvmeGroup()},
	} {
		if err := d.test(LabPattern(d.Serial, step), LabSize(step)); err != nil {
			d.Error = err.Error()
		}
		if err := l.send(LabMessage{Disk: &d}); err != nil {
			return err
		}
	}
	return nil
}

// The NVMe disk in the kernel's hands.
const (
	nvmeDisk   = "nvme0n1"
	nvmeClass  = "0x0108"
	nvmeDriver = "/sys/bus/pci/drivers/nvme/"
)

// nvme is the directory of the NVMe disk's PCI device.
func nvme() (string, error) {
	classes, _ := filepath.Glob("/sys/bus/pci/devices/*/class")
	for _, file := range classes {
		if class, _ := os.ReadFile(file); strings.HasPrefix(string(class), nvmeClass) {
			return filepath.Dir(file), nil
		}
	}
	return "", errors.New("there is no NVMe disk on the PCI bus")
}

func nvmeGroup() string {
	dir, err := nvme()
	if err != nil {
		return ""
	}
	kind, _ := os.ReadFile(dir + "/iommu_group/type")
	return strings.TrimSpace(string(kind))
}

func waitForNVMe() (dir string, err error) {
	if !pid1.WaitFor(deviceTimeout, func() bool {
		_, err := os.Stat("/dev/" + nvmeDisk)
		return err == nil
	}) {
		return "", fmt.Errorf("%s did not appear", nvmeDisk)
	}
	return nvme()
}

func write(path, text string) error { return os.WriteFile(path, []byte(text), 0) }

// without takes the disk from its driver, does something, and gives it back.
func without(do func(dir string) error) error {
	dir, err := waitForNVMe()
	if err != nil {
		return err
	}
	address := filepath.Base(dir)
	if err := write(nvmeDriver+"unbind", address); err != nil {
		return err
	}
	if err := do(dir); err != nil {
		return err
	}
	return write(nvmeDriver+"bind", address)
}

func (l *labInit) rebind() error {
	if err := without(func(string) error { return nil }); err != nil {
		return err
	}
	return l.step(StepRebind)
}

// reset has the kernel make a function-level reset, and no other.
func (l *labInit) reset() error {
	err := without(func(dir string) error {
		return errors.Join(write(dir+"/reset_method", "flr"), write(dir+"/reset", "1"))
	})
	if err != nil {
		return err
	}
	return l.step(StepFLR)
}

// measure reads the disk by the kernel's default, which is strict, and past stage 1 as with iommu.passthrough=1, by turns, so
// that neither is measured while the machine has more time for it.
func (l *labInit) measure() error {
	strict := nvmeGroup()
	translate := func(kind string) error {
		return without(func(dir string) error { return write(dir+"/iommu_group/type", kind) })
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
	// readBlock is the largest request that Linux gives a disk whose DMA it maps; past stage 1 it could be more, and the
	// two would not be the same reads.
	readBlock = 128 << 10
	// Another readUnaligned bytes are read to memory that begins in the middle of a page. So a request has one page more than
	// a range of TLBI covers (IHI 0070 §4.4.1.1), and the kernel gives two before its SYNC.
	readUnaligned = 4 << 20
	halfPage      = 2 << 10
)

// read reads the disk, and tells how long that has taken where the memory is aligned.
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
	clear(mem) // the pages are there before the clock runs
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

// strayAddress is where Linux maps nothing: it hands out addresses for DMA from 4 GiB downwards.
const strayAddress = 0x1bad_0000

// stray has the disk fetch a command from where nothing is mapped.
func (l *labInit) stray() error {
	if err := l.send(LabMessage{Begin: "an NVMe disk makes a DMA that the guest never mapped"}); err != nil {
		return err
	}
	before, err := kernelLines(smmuDriver)
	if err != nil {
		return err
	}
	var said []string
	err = without(func(dir string) error {
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

// Registers of an NVMe controller (NVM Express Base 2.0, §3.1.3).
const (
	nvmeConfig   = 0x14 // CC
	nvmeStatus   = 0x1c // CSTS
	nvmeSizes    = 0x24 // AQA
	nvmeCommands = 0x28 // ASQ
	nvmeAnswers  = 0x30 // ACQ
	nvmeDoorbell = 0x1000

	nvmeEnable  = 1<<0 | 6<<16 | 4<<20 // EN, and entries of 2^6 and 2^4 bytes
	nvmeReady   = 1 << 0
	nvmeEntries = 31 // of each admin queue, less 1
)

// strayDMA enables the controller with its admin queue at the address, and rings its doorbell.
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
		return pid1.WaitFor(deviceTimeout, func() bool { return atomic.LoadUint32(register(nvmeStatus))&nvmeReady == want })
	}
	// Its driver has shut it down, but has not disabled it.
	store(nvmeConfig, 0)
	if !ready(0) {
		return errors.New("the NVMe disk cannot be disabled")
	}
	store(nvmeSizes, nvmeEntries<<16|nvmeEntries)
	store(nvmeCommands, strayAddress)
	store(nvmeCommands+4, 0)
	store(nvmeAnswers, strayAddress+0x1000)
	store(nvmeAnswers+4, 0)
	store(nvmeConfig, nvmeEnable)
	if !ready(nvmeReady) {
		return errors.New("the NVMe disk does not become ready")
	}
	store(nvmeDoorbell, 1)
	return nil
}

// takenOver is the boot that finds the SMMU as the kernel before has left it.
func (l *labInit) takenOver() error {
	said, err := kernelLines(smmuDriver)
	if err != nil {
		return err
	}
	if err := l.send(LabMessage{Reset: &LabReset{Kernel: said}}); err != nil {
		return err
	}
	return l.step(StepTakenOver)
}

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
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"golang.org/x/sys/unix"
)

// Lab is the guest's whole user space in the lab. It returns in the boot that must crash: the
// kernel then panics.
func Lab() error {
	end, err := lab()
	if err != nil {
		fmt.Fprintln(os.Stderr, progress.InitFailed+err.Error())
	}
	switch end {
	case EndCrash:
		return errors.New("this crash is planned")
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

// ask sends a request to the VMM and waits for Done.
func (l *labInit) ask(what string) error {
	return errors.Join(l.send(LabMessage{Ask: what}), l.waitDone())
}

// run runs the steps of a boot and returns how the boot must end.
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
		return EndReboot, errors.Join(l.step(StepFirst), l.rebind(), l.reset(), l.renumber(), l.intx(), l.measure(), l.stray())
	case "2":
		return EndCrash, l.step(StepReboot)
	case "3":
		return EndPowerOff, errors.Join(l.takenOver(), l.lose())
	}
	return "", fmt.Errorf("the VMM answered %q instead of the boot's number", boot)
}

// step writes, reads and verifies both disks.
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

// The NVMe disk's device name, PCI class and driver.
const (
	nvmeDisk   = "nvme0n1"
	nvmeClass  = "0x0108"
	nvmeDriver = "/sys/bus/pci/drivers/nvme/"
)

// nvme returns the sysfs directory of the NVMe disk's PCI function.
func nvme() (string, error) {
	classes, _ := filepath.Glob("/sys/bus/pci/devices/*/class")
	for _, file := range classes {
		if class, _ := os.ReadFile(file); strings.HasPrefix(string(class), nvmeClass) {
			return filepath.Dir(file), nil
		}
	}
	return "", errors.New("no NVMe disk on the PCI bus")
}

// nvmeGroup returns the domain type of the NVMe disk's IOMMU group, or "".
func nvmeGroup() string {
	dir, err := nvme()
	if err != nil {
		return ""
	}
	kind, _ := os.ReadFile(dir + "/iommu_group/type")
	return strings.TrimSpace(string(kind))
}

// waitForNVMe waits for the NVMe disk and returns the sysfs directory of its PCI function.
func waitForNVMe() (dir string, err error) {
	if !pid1.WaitFor(deviceTimeout, func() bool {
		_, err := os.Stat("/dev/" + nvmeDisk)
		return err == nil
	}) {
		return "", fmt.Errorf("%s did not appear", nvmeDisk)
	}
	return nvme()
}

// write writes a text to a file in sysfs.
func write(path, text string) error { return os.WriteFile(path, []byte(text), 0) }

// unbound unbinds the NVMe disk from its driver, calls do, and binds it again.
func unbound(do func(dir string) error) error {
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

// rebind unbinds the NVMe disk from its driver and binds it again.
func (l *labInit) rebind() error {
	if err := unbound(func(string) error { return nil }); err != nil {
		return err
	}
	return l.step(StepRebind)
}

// reset resets the NVMe disk by FLR.
func (l *labInit) reset() error {
	err := unbound(func(dir string) error {
		return errors.Join(write(dir+"/reset_method", "flr"), write(dir+"/reset", "1"))
	})
	if err != nil {
		return err
	}
	return l.step(StepFLR)
}

// measure reads the NVMe disk with the kernel's default, strict invalidation, and with an identity
// domain, as iommu.passthrough=1 chooses it. It does so by turns: the machine's other load affects
// both the same.
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
	// has one page more than a TLBI range covers (IHI 0070 §4.4.1.1), and the kernel gives two
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
		return pid1.WaitFor(deviceTimeout, func() bool { return atomic.LoadUint32(register(nvmeStatus))&nvmeReady == want })
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

// takenOver sends what the kernel printed about the SMMU that the crashed kernel left enabled, and
// tests the disks.
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

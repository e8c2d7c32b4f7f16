package guest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/pid1"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"golang.org/x/sys/unix"
)

// Times that the init gives the kernel. Emulated machines are slow, and slower still on a busy
// machine.
const (
	deviceTimeout = 3 * time.Minute
	faultTimeout  = time.Minute
)

// Init is the guest's whole user space: it tests the disks, reports to the VMM, and powers off.
func Init() error {
	err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, progress.InitFailed+err.Error()) // the channel may have failed
	}
	return errors.Join(err, pid1.PowerOff())
}

func run() error {
	if err := pid1.Mount(); err != nil {
		return err
	}
	channel, err := openControl()
	if err != nil {
		return err
	}
	defer channel.Close()
	err = exercise(channel)
	if err != nil {
		return errors.Join(err, channel.send(Message{Error: err.Error()}))
	}
	return nil
}

// exercise tests the disks and reports the faults that the VMM causes.
func exercise(c *control) error {
	hello, err := sayHello()
	if err != nil {
		return err
	}
	if err := c.send(Message{Hello: hello}); err != nil {
		return err
	}
	if err := pid1.LoadModules(); err != nil {
		return err
	}
	if err := waitForSMMU(slices.Contains(os.Args, PCI)); err != nil {
		return err
	}
	names, err := waitForDisks(Plain, PASID, Rogue)
	if err != nil {
		return err
	}
	for _, serial := range []string{Plain, PASID} {
		if err := c.send(Message{Stage: "write and read disk " + serial}); err != nil {
			return err
		}
		disk := testDisk(serial, names[serial], slices.Contains(os.Args, Rebind))
		if err := c.send(Message{Disk: &disk}); err != nil {
			return err
		}
	}
	driver, err := kernelLines(smmuDriver)
	if err != nil {
		return err
	}
	if err := c.send(Message{Up: &Up{Probe: driver}}); err != nil {
		return err
	}
	if err := c.waitDone(); err != nil {
		return err
	}
	faults, err := faultsAfter(len(driver), groupType(names[Rogue]) != DomainIdentity)
	if err != nil {
		return err
	}
	return c.send(Message{Faults: &Faults{Lines: faults}})
}

// faultsAfter returns the driver's lines after the first ones. It waits for some if a fault is
// expected.
func faultsAfter(first int, expected bool) (faults []string, err error) {
	if !expected {
		lines, err := kernelLines(smmuDriver)
		return lines[min(first, len(lines)):], err
	}
	// The driver's interrupt thread prints a record as several lines. The last one is there when
	// the count stays the same.
	pid1.WaitFor(faultTimeout, func() bool {
		lines, lerr := kernelLines(smmuDriver)
		before := len(faults)
		faults, err = lines[min(first, len(lines)):], lerr
		return err != nil || len(faults) > 0 && len(faults) == before
	})
	return faults, err
}

func sayHello() (*Hello, error) {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return nil, fmt.Errorf("uname: %w", err)
	}
	return &Hello{
		Release:  unix.ByteSliceToString(uts.Release[:]),
		Version:  unix.ByteSliceToString(uts.Version[:]),
		PageSize: os.Getpagesize(),
		CPUs:     runtime.NumCPU(),
	}, nil
}

// control is the channel to the VMM: lines of JSON.
type control struct {
	*os.File
	lines *bufio.Scanner
}

func openControl() (*control, error) {
	fd, err := unix.Open(ControlDevice, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the channel to the VMM: %w", &os.PathError{Op: "open", Path: ControlDevice, Err: err})
	}
	// Raw mode, as cfmakeraw(3): otherwise the terminal echoes the VMM's words.
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ControlDevice, err)
	}
	t.Iflag &^= unix.IGNBRK | unix.BRKINT | unix.PARMRK | unix.ISTRIP | unix.INLCR | unix.IGNCR | unix.ICRNL | unix.IXON
	t.Oflag &^= unix.OPOST
	t.Lflag &^= unix.ECHO | unix.ECHONL | unix.ICANON | unix.ISIG | unix.IEXTEN
	t.Cflag = t.Cflag&^(unix.CSIZE|unix.PARENB) | unix.CS8
	if err := unix.IoctlSetTermios(fd, unix.TCSETS, t); err != nil {
		return nil, fmt.Errorf("%s: %w", ControlDevice, err)
	}
	f := os.NewFile(uintptr(fd), ControlDevice)
	return &control{f, bufio.NewScanner(f)}, nil
}

func (c *control) send(m Message) error {
	line, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return c.sendLine(line)
}

func (c *control) sendLine(line []byte) error {
	if _, err := c.Write(append(line, '\n')); err != nil {
		return err
	}
	// tcdrain(3): a power off does not wait for the UART. Go's preemption signals interrupt the
	// ioctl.
	for {
		err := unix.IoctlSetInt(int(c.Fd()), unix.TCSBRK, 1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receive waits for a line of the VMM.
func (c *control) receive() (string, error) {
	if !c.lines.Scan() {
		return "", errors.Join(errors.New("the VMM closed the channel"), c.lines.Err())
	}
	return c.lines.Text(), nil
}

// waitDone waits for the VMM's line Done.
func (c *control) waitDone() error {
	word, err := c.receive()
	if err == nil && word != Done {
		err = fmt.Errorf("the VMM answered %q instead of %q", word, Done)
	}
	return err
}

// smmuDriver is the SMMU driver's name, with which its lines in the kernel's log begin.
const smmuDriver = "arm-smmu-v3"

// driver is a driver that the disks need, and its directory in sysfs.
type driver struct{ name, path string }

// waitForSMMU checks that the kernel has the drivers, and waits for the SMMU: without either, disks
// never appear.
func waitForSMMU(pci bool) error {
	transport := driver{"virtio_mmio", "/sys/bus/platform/drivers/virtio-mmio"}
	if pci {
		transport = driver{"virtio_pci", "/sys/bus/pci/drivers/virtio-pci"}
	}
	for _, d := range []driver{
		{smmuDriver, "/sys/bus/platform/drivers/arm-smmu-v3"}, transport, {"virtio_blk", "/sys/bus/virtio/drivers/virtio_blk"},
	} {
		if _, err := os.Stat(d.path); err != nil {
			return fmt.Errorf("the kernel has no driver %s, neither built in nor among the modules (give them with -modules DIR)", d.name)
		}
	}
	if pid1.WaitFor(deviceTimeout, func() bool {
		up, _ := filepath.Glob("/sys/class/iommu/smmu3.*")
		return len(up) > 0
	}) {
		return nil
	}
	lines, err := kernelLines(smmuDriver)
	return errors.Join(fmt.Errorf("the arm-smmu-v3 driver found no SMMU; its log: %q", lines), err)
}

// waitForDisks waits for disks and returns their kernel names by serial.
func waitForDisks(serials ...string) (map[string]string, error) {
	names := map[string]string{}
	if pid1.WaitFor(deviceTimeout, func() bool {
		files, _ := filepath.Glob("/sys/block/vd*/serial")
		for _, file := range files {
			serial, _ := os.ReadFile(file)
			names[strings.TrimSpace(string(serial))] = filepath.Base(filepath.Dir(file))
		}
		return !slices.ContainsFunc(serials, func(serial string) bool { return names[serial] == "" })
	}) {
		return names, nil
	}
	return nil, fmt.Errorf("waiting for the disks %v: only %v appeared, although their drivers are there", serials, names)
}

// kernelLines returns the messages in the kernel's log that contain a word, in order, without their
// prefixes.
func kernelLines(word string) ([]string, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/kmsg: %w", err)
	}
	defer unix.Close(fd)
	var lines []string
	record := make([]byte, 8192) // a read returns one record, which is never longer
	for {
		n, err := unix.Read(fd, record)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return lines, nil
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR):
			// EPIPE: the kernel overwrote records. The next read continues after them.
			continue
		case err != nil:
			return nil, fmt.Errorf("/dev/kmsg: %w", err)
		case n == 0:
			return lines, nil
		}
		// "prefix;message", then continuation lines that start with a blank.
		_, message, _ := strings.Cut(string(record[:n]), ";")
		message, _, _ = strings.Cut(message, "\n")
		if strings.Contains(message, word) {
			lines = append(lines, message)
		}
	}
}

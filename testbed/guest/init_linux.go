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
	"golang.org/x/sys/unix"
)

// How long the init waits for what the kernel does on its own. Emulated machines are slow, and starved ones slower.
const (
	deviceTimeout = 3 * time.Minute
	faultTimeout  = time.Minute
)

// Init is the guest's whole user space. It ends with power off.
func Init() error {
	err := run()
	if err != nil {
		// The console is the second way out, should the channel be what failed.
		fmt.Fprintln(os.Stderr, "vsmmu: guest:", err)
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
		if err := c.send(Message{Stage: "disk " + serial + " is written and read"}); err != nil {
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

// faultsAfter returns what the driver has printed after its first lines. If a fault is expected, it waits for that.
func faultsAfter(first int, expected bool) (faults []string, err error) {
	if !expected {
		lines, err := kernelLines(smmuDriver)
		return lines[min(first, len(lines)):], err
	}
	// The driver prints a record as several lines from its interrupt thread: the last is there when the count rests.
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

// control is the line-wise JSON channel to the VMM.
type control struct {
	*os.File
	lines *bufio.Scanner
}

func openControl() (*control, error) {
	fd, err := unix.Open(ControlDevice, unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("%s, the channel to the VMM: %w", ControlDevice, err)
	}
	// Raw, as cfmakeraw(3): a terminal's echo would send the VMM's own words back to it.
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
	// tcdrain(3): power off does not wait for a UART. The signals by which Go preempts goroutines interrupt it.
	for {
		err := unix.IoctlSetInt(int(c.Fd()), unix.TCSBRK, 1)
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// receive waits for what the VMM says.
func (c *control) receive() (string, error) {
	if !c.lines.Scan() {
		return "", errors.Join(errors.New("the VMM closed the channel"), c.lines.Err())
	}
	return c.lines.Text(), nil
}

func (c *control) waitDone() error {
	word, err := c.receive()
	if err == nil && word != Done {
		err = fmt.Errorf("the VMM said %q instead of %q", word, Done)
	}
	return err
}

// smmuDriver is the driver's name, and how its lines in the kernel's log begin.
const smmuDriver = "arm-smmu-v3"

// driver is one that a disk needs, with where the kernel shows that it has it.
type driver struct{ name, path string }

// waitForSMMU makes sure that the kernel has the drivers, and that its SMMU is up: a disk without would wait for ever.
func waitForSMMU(pci bool) error {
	transport := driver{"virtio_mmio", "/sys/bus/platform/drivers/virtio-mmio"}
	if pci {
		transport = driver{"virtio_pci", "/sys/bus/pci/drivers/virtio-pci"}
	}
	for _, d := range []driver{
		{smmuDriver, "/sys/bus/platform/drivers/arm-smmu-v3"}, transport, {"virtio_blk", "/sys/bus/virtio/drivers/virtio_blk"},
	} {
		if _, err := os.Stat(d.path); err != nil {
			return fmt.Errorf("the kernel has no driver %s, built in or among the modules given (-modules)", d.name)
		}
	}
	if pid1.WaitFor(deviceTimeout, func() bool {
		up, _ := filepath.Glob("/sys/class/iommu/smmu3.*")
		return len(up) > 0
	}) {
		return nil
	}
	lines, err := kernelLines(smmuDriver)
	return errors.Join(fmt.Errorf("the arm-smmu-v3 driver brought no SMMU up; it said: %q", lines), err)
}

// waitForDisks returns the kernel's name for each disk, by serial.
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
	return nil, fmt.Errorf("of the disks %v only %v appeared, although their drivers are there", serials, names)
}

// kernelLines returns the messages in the kernel's log that contain a word, without their prefixes, in order.
func kernelLines(word string) ([]string, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("/dev/kmsg: %w", err)
	}
	defer unix.Close(fd)
	var lines []string
	record := make([]byte, 8192) // the kernel gives one record per read, never longer than this
	for {
		n, err := unix.Read(fd, record)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return lines, nil
		case errors.Is(err, unix.EPIPE), errors.Is(err, unix.EINTR):
			// EPIPE: records were overwritten before they were read; the next read goes on behind them.
			continue
		case err != nil:
			return nil, fmt.Errorf("/dev/kmsg: %w", err)
		case n == 0:
			return lines, nil
		}
		// "prefix;message", then continuation lines that begin with a blank.
		_, message, _ := strings.Cut(string(record[:n]), ";")
		message, _, _ = strings.Cut(message, "\n")
		if strings.Contains(message, word) {
			lines = append(lines, message)
		}
	}
}

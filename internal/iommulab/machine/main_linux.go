package machine

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/go-vsmmu/vsmmuv3/internal/pid1"
)

// Main is a test program's main function: run and what comes of it, unless the program is a machine's init. Then it gets the
// machine ready before, and has it powered off after.
func Main(run func() int) {
	if os.Getpid() != 1 {
		os.Exit(run())
	}
	status := 1
	if err := prepare(); err != nil {
		fmt.Println("iommulab:", err)
	} else if len(os.Args) > 1 && os.Args[1] == DumpIORT {
		status = dumpIORT()
	} else {
		status = run()
		if complaints := kernelComplaints(); len(complaints) > 0 {
			fmt.Printf("iommulab: the kernel complains:\n\t%s\n", strings.Join(complaints, "\n\t"))
			status = max(status, 1)
		}
	}
	fmt.Printf("\n%s%d\n", ExitMark, status)
	fmt.Println("iommulab:", pid1.PowerOff())
	os.Exit(1)
}

// Here reports whether this is the machine, and its devices are there.
func Here() bool { return os.Getpid() == 1 }

func prepare() error {
	if err := pid1.Mount(); err != nil {
		return err
	}
	for _, dir := range devices() {
		if err := giveToVFIO(filepath.Base(dir)); err != nil {
			return err
		}
	}
	return nil
}

// eduID is the PCI vendor and device of QEMU's edu.
const eduID = "0x1234:0x11e8"

// Devices are the PCI addresses of the edu devices that have an IOMMU group to themselves.
func Devices() []string { return addresses(true) }

// Siblings are those of the ones that share theirs.
func Siblings() []string { return addresses(false) }

func addresses(alone bool) []string {
	var found []string
	for _, dir := range devices() {
		group, _ := os.ReadDir(filepath.Join(dir, "iommu_group/devices"))
		if alone == (len(group) == 1) {
			found = append(found, filepath.Base(dir))
		}
	}
	return found
}

func devices() []string {
	var found []string
	all, _ := filepath.Glob("/sys/bus/pci/devices/*")
	for _, dir := range all {
		vendor, _ := os.ReadFile(filepath.Join(dir, "vendor"))
		device, _ := os.ReadFile(filepath.Join(dir, "device"))
		if strings.TrimSpace(string(vendor))+":"+strings.TrimSpace(string(device)) == eduID {
			found = append(found, dir)
		}
	}
	return found
}

// giveToVFIO binds a PCI device to vfio-pci.
func giveToVFIO(address string) error {
	dir := filepath.Join("/sys/bus/pci/devices", address)
	return errors.Join(
		os.WriteFile(filepath.Join(dir, "driver_override"), []byte("vfio-pci"), 0),
		os.WriteFile("/sys/bus/pci/drivers_probe", []byte(address), 0),
	)
}

func dumpIORT() int {
	table, err := os.ReadFile("/sys/firmware/acpi/tables/IORT")
	if err != nil {
		fmt.Println("iommulab:", err)
		return 1
	}
	// Short lines: the console is slow to give up long ones.
	for rest := base64.StdEncoding.EncodeToString(table); rest != ""; {
		n := min(64, len(rest))
		fmt.Println(IORTMark + rest[:n])
		rest = rest[n:]
	}
	return 0
}

// kernelComplaints are the lines of the kernel's log that a kernel in order does not have.
func kernelComplaints() []string {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return []string{err.Error()}
	}
	defer unix.Close(fd)
	var found []string
	buf := make([]byte, 8192)
	for {
		n, err := unix.Read(fd, buf) // a record at a time
		switch {
		case errors.Is(err, unix.EPIPE): // overwritten meanwhile
			continue
		case err != nil:
			return found
		}
		record := string(buf[:n])
		for _, mark := range []string{"WARNING:", "BUG:", "Oops", "refcount_t", "Call trace:", "CMDQ error"} {
			if strings.Contains(record, mark) {
				found = append(found, strings.TrimSpace(record))
				break
			}
		}
	}
}

package guest

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Description says how the kernel found its hardware, and how it used the description.
type Description struct {
	By string `json:"by"` // ByTree or ByACPI
	// Bugs has the kernel's lines that blame the firmware.
	Bugs []string `json:"bugs,omitempty"`
	// Interrupts are the interrupts of SMMUs and disks.
	Interrupts []Interrupt `json:"interrupts"`
	// Nodes are the nodes of a device tree that have interrupts, or DMA that an SMMU translates.
	Nodes []Node `json:"nodes,omitempty"`
	// Reserved are the ranges that the kernel identity-maps for the disk plain, as sysfs prints
	// them: first and last address, and type.
	Reserved []string `json:"reserved,omitempty"`
}

// Values of Description.By.
const (
	ByTree = "device tree"
	ByACPI = "ACPI"
)

// Interrupt is a row of /proc/interrupts.
type Interrupt struct {
	Handler string `json:"handler"` // as in arm-smmu-v3-evtq
	Chip    string `json:"chip"`    // the interrupt controller, as in GICv3
	Number  uint64 `json:"number"`  // at the interrupt controller
	Count   uint64 `json:"count"`   // on all CPUs
}

// Wired reports whether the GIC receives the interrupt by a wire. Number is then the INTID.
func (i *Interrupt) Wired() bool { return strings.HasPrefix(i.Chip, "GIC") }

// Message reports whether the interrupt is a message to the ITS.
func (i *Interrupt) Message() bool { return strings.HasPrefix(i.Chip, "ITS") }

// Node is a node of the device tree.
type Node struct {
	Path       string `json:"path"`
	Interrupts bool   `json:"interrupts,omitempty"` // it has interrupts
	Parent     bool   `json:"parent,omitempty"`     // it or a node above it has interrupt-parent
	Master     bool   `json:"master,omitempty"`     // it has iommus or iommu-map
	Coherent   bool   `json:"coherent,omitempty"`   // dma-coherent
	Bridge     bool   `json:"bridge,omitempty"`     // it is a PCI host bridge
	ATS        bool   `json:"ats,omitempty"`        // ats-supported
}

// Names with which the handlers of an SMMU's interrupts and of a disk's begin.
const (
	smmuHandlers = "arm-smmu-v3"
	diskHandlers = "virtio"
)

// parseInterrupts returns the rows of /proc/interrupts of SMMUs and disks. A row has a number, a
// count for each CPU, the controller, the number there, the trigger, and the handler.
func parseInterrupts(table string) (rows []Interrupt) {
	header, body, _ := strings.Cut(table, "\n")
	cpus := len(strings.Fields(header))
	for line := range strings.Lines(body) {
		fields := strings.Fields(line)
		trigger := slices.IndexFunc(fields, func(f string) bool { return f == "Edge" || f == "Level" })
		if trigger < cpus+3 || trigger+1 >= len(fields) {
			continue // a row of another form
		}
		row := Interrupt{
			Handler: strings.Join(fields[trigger+1:], " "),
			Chip:    strings.Join(fields[1+cpus:trigger-1], " "),
		}
		if !strings.HasPrefix(row.Handler, smmuHandlers) && !strings.HasPrefix(row.Handler, diskHandlers) {
			continue
		}
		row.Number, _ = strconv.ParseUint(fields[trigger-1], 10, 64)
		for _, count := range fields[1 : 1+cpus] {
			n, _ := strconv.ParseUint(count, 10, 64)
			row.Count += n
		}
		rows = append(rows, row)
	}
	return rows
}

// blames are the words with which the kernel blames the firmware, or overrides it.
var blames = []string{
	"Firmware Bug", "Firmware Warn", "ACPI Error", "ACPI Warning", "ACPI BIOS", "ACPI Exception",
	"overridden by FW", "OF: fdt: Error", "no msi-map", "invalid MSI mapping",
}

func blamesFirmware(line string) bool {
	return slices.ContainsFunc(blames, func(word string) bool { return strings.Contains(line, word) })
}

// readTree returns the nodes below a directory that has the form of /sys/firmware/devicetree/base:
// those with interrupts, masters and host bridges.
func readTree(root string) (nodes []Node, err error) {
	parents := map[string]bool{}
	has := func(dir, property string) bool {
		_, err := os.Stat(filepath.Join(dir, property))
		return err == nil
	}
	err = filepath.WalkDir(root, func(dir string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.IsDir() {
			return err
		}
		parents[dir] = has(dir, "interrupt-parent") || parents[filepath.Dir(dir)]
		n := Node{
			Path:       "/" + strings.TrimPrefix(strings.TrimPrefix(dir, root), "/"),
			Interrupts: has(dir, "interrupts"),
			Parent:     parents[dir],
			Master:     has(dir, "iommus") || has(dir, "iommu-map"),
			Coherent:   has(dir, "dma-coherent"),
			Bridge:     has(dir, "bus-range"),
			ATS:        has(dir, "ats-supported"),
		}
		if n.Interrupts || n.Master || n.Bridge {
			nodes = append(nodes, n)
		}
		return nil
	})
	return nodes, err
}

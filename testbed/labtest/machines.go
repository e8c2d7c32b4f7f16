package labtest

import (
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// Which stages an SMMU of QEMU's has.
const (
	stage1Only = "1"
	stage2Only = "2"
	bothStages = "nested"
)

// base is what all machines of the lab are: EL2, and PCI devices behind an SMMU.
func (l *lab) base(stages string, initrd []byte, cmdline string, args ...string) *qemu.Machine {
	return &qemu.Machine{
		QEMU: l.QEMU,
		Args: append([]string{
			// Later ones give their SMMU both stages, whatever they are asked for.
			"-M", "virt-9.1,virtualization=on,gic-version=3,iommu=smmuv3,acpi=on",
			"-global", "arm-smmuv3.stage=" + stages,
			"-cpu", "max,pauth-impdef=on", // QARMA, the architected pointer authentication, costs much to emulate
			"-nic", "none", // spares the ROM packages
			"-bios", l.Firmware, // without it, Linux would have no ACPI
		}, args...),
		Image: l.image, Initrd: initrd,
		Cmdline: "console=ttyAMA0 acpi=force panic=-1 " + machine.Patience + " -- " + cmdline,
	}
}

// eduMachine has edu devices, and a program of tests as its user space.
func (l *lab) eduMachine(stages string, initrd []byte, cmdline string) *qemu.Machine {
	args := []string{
		// edu takes 100 ms for a DMA. Where time is what instructions take, and nothing runs, that is over at once.
		"-accel", "tcg,thread=single,tb-size=512",
		"-icount", "shift=1,sleep=off",
		"-smp", "2", "-m", "1G",
	}
	// Functions of one device, which nothing keeps apart, share an IOMMU group.
	for _, place := range []string{"addr=2", "addr=3", "addr=4.0,multifunction=on", "addr=4.1"} {
		args = append(args, "-device", "edu,dma_mask=0xffffffffffff,"+place)
	}
	return l.base(stages, initrd, cmdline, args...)
}

// kvmMachine has nothing but a program of tests, as its user space.
func (l *lab) kvmMachine(initrd []byte, cmdline string) *qemu.Machine {
	return l.base(bothStages, initrd, cmdline, "-accel", "tcg,thread=multi,tb-size=512", "-smp", "2", "-m", "1G")
}

// guestMachine has an NVMe disk, and a VMM as its user space.
func (l *lab) guestMachine(initrd []byte, nvme string) *qemu.Machine {
	return l.base(bothStages, initrd, machine.VMRole,
		"-accel", "tcg,thread=multi,tb-size=1024",
		"-smp", "2", "-m", "2G",
		"-drive", "if=none,id=nvme,format=raw,file="+nvme,
		"-device", "nvme,drive=nvme,serial="+guest.LabNVMe+",addr=2",
	)
}

package labtest

import (
	"bytes"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

// cpu is QEMU's processor. QARMA, the architected pointer authentication, is slow to emulate.
const cpu = "max,pauth-impdef=on"

// base returns a machine with EL2 and with PCI devices behind an SMMU.
func (l *lab) base(s *spec, initrd []byte, args ...string) *qemu.Machine {
	return &qemu.Machine{
		QEMU: l.QEMU,
		Args: append([]string{
			// Later machine versions ignore the property stage, and give their SMMU both stages.
			"-M", "virt-9.1,virtualization=on,gic-version=3,iommu=smmuv3,acpi=on",
			"-global", "arm-smmuv3.stage=" + s.stages,
			"-cpu", cpu,
			"-nic", "none", // needs no ROM files
			"-bios", l.Firmware, // without it, Linux has no ACPI
		}, args...),
		Image: l.image, Initrd: append(bytes.Clone(l.iorts[s.iort]), initrd...),
		Cmdline: "console=ttyAMA0 acpi=force panic=-1 " + machine.NoStallWarnings + " -- " + s.cmdline(),
	}
}

// eduMachine returns a machine with edu devices, whose user space is a test binary.
func (l *lab) eduMachine(s *spec, initrd []byte) *qemu.Machine {
	args := []string{
		// edu takes 100 ms for a DMA. With -icount this is virtual time, which advances at once
		// while the processors idle.
		"-accel", "tcg,thread=single,tb-size=512",
		"-icount", "shift=1,sleep=off",
		"-smp", "2", "-m", "1G",
	}
	// The functions of one device share an IOMMU group, since they have no ACS.
	for _, place := range []string{"addr=2", "addr=3", "addr=4.0,multifunction=on", "addr=4.1"} {
		args = append(args, "-device", "edu,dma_mask=0xffffffffffff,"+place)
	}
	return l.base(s, initrd, args...)
}

// kvmMachine returns a machine without devices, whose user space is a test binary.
func (l *lab) kvmMachine(s *spec, initrd []byte) *qemu.Machine {
	return l.base(s, initrd, "-accel", "tcg,thread=multi,tb-size=512", "-smp", "2", "-m", "1G")
}

// guestMachine returns a machine with an NVMe disk, whose user space is the VMM.
func (l *lab) guestMachine(s *spec, initrd []byte, nvme *qemu.TempFile) *qemu.Machine {
	m := l.base(s, initrd,
		"-accel", "tcg,thread=multi,tb-size=1024",
		"-smp", "2", "-m", "2G",
		"-device", "nvme,drive=nvme,serial="+guest.LabNVMe+",addr=2",
	)
	m.Args = append(m.Args, "-drive", "if=none,id=nvme,format=raw,file="+m.Pass(nvme))
	return m
}

// ownMachine returns a machine whose user space is package ownsmmu. QEMU emulates no SMMU in it,
// and it needs no firmware.
func (l *lab) ownMachine(s *spec, initrd []byte) *qemu.Machine {
	processor := cpu
	if s.own.cpu != "" {
		processor += "," + s.own.cpu
	}
	return &qemu.Machine{
		QEMU: l.QEMU,
		Args: []string{
			"-M", "virt-9.1,virtualization=on,gic-version=3", "-cpu", processor, "-nic", "none",
			"-accel", "tcg,thread=multi,tb-size=1024", "-smp", "2", "-m", "1280M",
		},
		Image: l.image, Initrd: initrd,
		Cmdline: "console=ttyAMA0 panic=-1 " + machine.NoStallWarnings + " -- " + machine.OwnRole,
	}
}

// initramfs returns an archive with a program as its init, and more files.
func initramfs(program []byte, more ...kernel.File) ([]byte, error) {
	var b bytes.Buffer
	err := kernel.WriteInitramfs(&b, append([]kernel.File{{Name: "init", Mode: 0o755, Data: program}}, more...))
	return b.Bytes(), err
}

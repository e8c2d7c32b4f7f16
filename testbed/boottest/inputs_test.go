package boottest

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu/qemutest"
)

func TestBadInputOfTheBenchIsAnErrorBeforeTheBoot(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Options)
		want string
	}{
		{"no peer", func(o *Options) { o.Peer = "/nonexistent" }, "run make bench-boot, or give one with -peer DIR"},
		{"a peer without QEMU", func(o *Options) { o.Peer = os.TempDir() }, "the QEMU to compare with: "},
		{"an agent that is a kernel", func(o *Options) { o.Agent = o.Kernel }, "is not an ELF file"},
		{"a report over a kernel", func(o *Options) { o.Report = o.Kernel }, "would overwrite the input of -kernel"},
		{"no rounds", func(o *Options) { o.Rounds = 0 }, "measure at least once"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, _ := benchOptions(t, "measures")
			tt.edit(&o)
			_, err := Bench(context.Background(), o)
			var input *InputError
			require.ErrorAs(t, err, &input)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestBadInputIsAnErrorOfOneLineBeforeTheBoot(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Options)
		want string
	}{
		{"no kernel", func(o *Options) { o.Kernel = "/nonexistent" }, "the guest's kernel: stat /nonexistent"},
		{"no arm64 kernel", func(o *Options) { o.Kernel = o.QEMU }, "not an arm64 Linux kernel image"},
		{"a host's kernel that is not a kernel", func(o *Options) { o.HostKernel = o.QEMU }, "the host's kernel: "},
		{"no modules", func(o *Options) { o.Modules = "/nonexistent" }, "the guest's modules: stat /nonexistent"},
		{"no agent", func(o *Options) { o.Agent = "/nonexistent" }, "run make, or give one with -agent FILE"},
		{"no emulator", func(o *Options) { o.QEMU = "/nonexistent" }, "apt-get install qemu-system-arm"},
		{"an emulator that cannot be started", func(o *Options) { o.QEMU = o.Kernel }, "permission denied"},
		{"an agent that is a directory", func(o *Options) { o.Agent = filepath.Dir(o.Kernel) }, "is a directory"},
		{"an agent that is no program", func(o *Options) { o.Agent = o.Kernel }, "is not an ELF file (run make"},
		{"an agent for another machine", edited("agent", func(b []byte) []byte { b[18] = 62; return b }), "is for EM_X86_64, not for arm64"},
		{"an agent that is an object file", edited("agent", func(b []byte) []byte { b[16] = 1; return b }), "is not an executable (ET_REL)"},
		{"an agent that needs libraries", edited("agent", func(b []byte) []byte { b[64] = 3; return b }), "is dynamically linked"},
		{"an agent that is cut off", edited("agent", func(b []byte) []byte { return b[:100] }), "the agent "},
		{"an agent in another language", edited("agent", func(b []byte) []byte { b[128] = 0; return b }), "is not a Go program"},
		{"an agent for another system", edited("agent", func(b []byte) []byte {
			return bytes.Replace(b, []byte("GOOS=linux"), []byte("GOOS=plan9"), 1)
		}), "is for plan9, not for linux"},
		{"another program as the agent", edited("agent", func([]byte) []byte { return qemutest.Agent("example.com/other") }), "is the program example.com/other"},
		{"a guest's kernel without the disks' driver", edited("Image", lacking("virtio_blk")), "the guest's kernel: "},
		{"a host's kernel without KVM", hostKernel("kvm-arm.mode"), "the kernel has no kvm, neither built in nor as a module (give another kernel with -host-kernel FILE)"},
		{"a host's kernel without a console port", hostKernel("virtio_console"), "the kernel has no virtio_console, neither built in nor as a module (give the kernel's modules with -host-modules DIR)"},
		{"a guest's kernel without the SMMU's driver", edited("Image", lacking("arm-smmu-v3")), "the kernel has no arm_smmu_v3, neither built in nor as a module (give another kernel with -kernel FILE)"},
		{"a guest's kernel without the transport", edited("Image", lacking("virtio-mmio")), "the kernel has no virtio_mmio"},
		{"a report over a kernel", func(o *Options) { o.Report = o.Kernel }, "-report "},
		{"a report over the agent", func(o *Options) { o.Report = o.Agent }, "would overwrite the input of -agent"},
		{"a report over a link to the emulator", func(o *Options) {
			o.Report += ".link"
			_ = os.MkdirAll(filepath.Dir(o.Report), 0o755)
			_ = os.Link(o.Agent, o.Report)
		}, "would overwrite the input of -agent"},
		{"a report over a transcript", func(o *Options) {
			o.Report = filepath.Join(filepath.Dir(o.Agent), "transcript")
			_ = os.WriteFile(o.Report, []byte("vsmmu-tr"), 0o644)
		}, "would overwrite a transcript"},
		{"a report over a file of a kernel's directory", func(o *Options) {
			dir := filepath.Join(filepath.Dir(o.Kernel), "debs")
			o.Report = filepath.Join(dir, "boot", "Image")
			_ = os.MkdirAll(filepath.Dir(o.Report), 0o755)
			_ = os.Rename(o.Kernel, o.Report)
			o.Kernel, o.HostKernel = dir, o.Report
		}, "would overwrite the input of -kernel"},
		{"a transcript over a kernel", func(o *Options) { o.Record = o.HostKernel }, "would overwrite the input of -kernel"},
		{"a transcript over another file", func(o *Options) {
			o.Record = filepath.Join(filepath.Dir(o.Agent), "notes")
			_ = os.WriteFile(o.Record, []byte("a user's notes"), 0o644)
		}, "exists and is not a transcript"},
		{"a transcript over the report", func(o *Options) { o.Record = o.Report }, "-report and -record are the same file"},
		{"a transcript in no directory", func(o *Options) { o.Record = filepath.Join(o.Kernel, "t") }, "the transcript: "},
		{"unknown acceleration", func(o *Options) { o.Accel = "hvf" }, "-accel hvf: not one of [auto kvm tcg]"},
		{"no such transport", func(o *Options) { o.Transport = "usb" }, "-transport usb: not one of [mmio pci mixed]"},
		{"mixed transports of a device tree", func(o *Options) { o.Transport = "mixed" }, "-transport mixed: only with -firmware acpi or uefi"},
		{"no such firmware", func(o *Options) { o.Firmware = "bios" }, "-firmware bios: not one of [dt acpi uefi]"},
		{"a PCI device that stalls", func(o *Options) { o.Transport, o.Stalls = "pci", true }, "may stall"},
		{"no PASIDs", func(o *Options) { o.PASIDBits = 0 }, "PASIDs of 0 bits"},
		{"more PASID bits than 20", func(o *Options) { o.PASIDBits = 21 }, "PASIDs of 21 bits: give from 1 to 20"},
		{"an unknown stage", func(o *Options) { o.Stage = 3 }, "stage 3: give 1 or 2"},
		{"stalls at stage 2", func(o *Options) { o.Stage, o.Stalls = 2, true }, "-stage 2 with -stall: give only one of them"},
		{"too little memory", func(o *Options) { o.Mem = 1 << 20 }, "1 MiB of memory"},
		{"report in a file", func(o *Options) { o.Report = o.Kernel + "/report.json" }, "the report: "},
		{"report is a directory", func(o *Options) { o.Report = filepath.Dir(o.Kernel) }, "not a regular file"},
		{"no directory for files", func(o *Options) { os.Remove(os.Getenv("TMPDIR")) }, "set TMPDIR"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, out := options(t, "reports")
			tt.edit(&o)
			_, err := Boot(context.Background(), o)
			var input *InputError
			require.ErrorAs(t, err, &input)
			assert.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error(), "\n")
			assert.Empty(t, out.String(), "the error is the only line")
		})
	}
}

func TestEmulatorThatDoesNotRunIsABadInput(t *testing.T) {
	for mode, want := range map[string]string{
		"no version": "--version: exit status 127: qemu: libpixman-1.so.0: cannot open shared object file",
		"no QEMU":    `is not QEMU: its --version prints "true (GNU coreutils) 9.1"`,
	} {
		o, _ := options(t, mode)
		_, err := Boot(context.Background(), o)
		var input *InputError
		require.ErrorAs(t, err, &input)
		assert.ErrorContains(t, err, want)
		assert.NoDirExists(t, filepath.Dir(o.Report), "nothing was created")
	}
}

func TestTranscriptOfABadInputIsNotBegun(t *testing.T) {
	whole, part, _ := record(t, "records", "vsmmu-tr earlier", func(o *Options) context.Context {
		edited("Image", lacking("virtio_blk"))(o)
		return context.Background()
	})
	assert.Equal(t, "vsmmu-tr earlier", whole)
	assert.Empty(t, part)
}

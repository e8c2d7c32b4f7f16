package labtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest"
	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu/qemutest"
	"github.com/go-vsmmu/vsmmuv3/testbed/labtest/machine"
)

func TestMain(m *testing.M) { qemutest.Main(m, actQEMU) }

// actQEMU behaves as QEMU with the tests in it.
func actQEMU(mode string, port *os.File) {
	if slices.Contains(os.Args, "--version") {
		switch mode {
		case "old":
			fmt.Println("QEMU emulator version 9.0.4")
		case "no QEMU":
			fmt.Println("hello")
		default:
			fmt.Println("QEMU emulator version 10.0.2 (Debian)")
		}
		return
	}
	channel := bufio.NewWriter(port)
	defer channel.Flush()
	send := func(m machine.Message) {
		line, _ := json.Marshal(m)
		fmt.Fprintf(channel, "%s\n", line)
	}
	if strings.HasSuffix(os.Args[len(os.Args)-1], machine.VMRole) {
		if mode == "VMM fails" {
			why := "the guest did not end"
			send(machine.Message{Line: &why})
			send(machine.Message{Exit: &machine.Exit{Status: 1}})
			return
		}
		actVMM(send)
		return
	}
	say := func(line string) { send(machine.Message{Line: &line}) }
	fmt.Println("Booting Linux\x1b[2J on the host")
	send(machine.Message{Hello: &machine.Hello{Release: "7.3.4"}})
	if strings.Contains(os.Args[len(os.Args)-1], machine.DumpIORT) {
		table, _ := os.ReadFile("testdata/iort-qemu-10.0.bin")
		if mode == "no IORT" {
			table = nil
		}
		send(machine.Message{IORT: table})
		say(mark + "=== RUN   TestUnnestedKernel")
		say(mark + "--- PASS: TestUnnestedKernel (0.50s)")
		send(machine.Message{Exit: &machine.Exit{}})
		return
	}
	if _, name, ok := strings.Cut(os.Args[len(os.Args)-1], "-test.run=^"); ok && name != "TestKernel" {
		say(mark + "=== RUN   " + name)
		say(mark + "--- PASS: " + name + " (0.50s)")
		send(machine.Message{Exit: &machine.Exit{}})
		return
	}
	say(mark + "=== RUN   TestKernelConformance")
	say(mark + "--- PASS: TestKernelConformance (1.50s)")
	send(machine.Message{SMMU: &machine.SMMU{IDR: [6]uint32{0xd44101b}}})
	send(machine.Message{Figures: &machine.Figures{Ioctls: 34}})
	switch mode {
	case "panics":
		channel.Flush()
		fmt.Println("Kernel panic - not syncing: no init")
		return
	case "talks nonsense":
		fmt.Fprintln(channel, "{")
		return
	case "gives up":
		send(machine.Message{Exit: &machine.Exit{Status: 1, Error: "no vfio-pci"}})
		return
	case "warns":
		fmt.Println("WARNING: CPU: 0 PID: 1 at drivers/iommu/iommufd/main.c:1")
	case "hangs":
		channel.Flush()
		qemutest.Hang()
	}
	send(machine.Message{Exit: &machine.Exit{}})
}

// actVMM behaves as package vm.
func actVMM(send func(machine.Message)) {
	tell := func(g machine.Guest) { send(machine.Message{Guest: &g}) }
	said := func(m guest.LabMessage) { tell(machine.Guest{Said: &m}) }
	panics := "Kernel panic - not syncing: Attempted to kill init!"
	tell(machine.Guest{Stage: "the guest boots"})
	said(guest.LabMessage{Hello: &guest.Hello{Release: "6.1.0"}})
	for _, step := range guest.LabSteps {
		said(guest.LabMessage{Begin: step})
		for _, disk := range []string{guest.LabVirtio, guest.LabNVMe} {
			said(guest.LabMessage{Disk: &guest.Disk{Serial: disk, Verified: guest.LabSize(step), IOMMU: guest.DomainStrict}})
		}
	}
	said(guest.LabMessage{End: guest.EndCrash})
	tell(machine.Guest{Line: &panics})
	tell(machine.Guest{Boot: &machine.Boot{Number: 1, End: guest.EndCrash}})
	tell(machine.Guest{End: &machine.End{Virtio: guest.TestSize}})
	send(machine.Message{Figures: &machine.Figures{Ioctls: 8}})
	// The image of its disk is in the arguments.
	for _, arg := range os.Args {
		if _, path, ok := strings.Cut(arg, "format=raw,file="); ok {
			data := make([]byte, guest.TestSize)
			guest.LabPattern(guest.LabNVMe, guest.StepFirst).Fill(data, 0)
			guest.LabPattern(guest.LabNVMe, guest.StepTakenOver).Fill(data[:guest.LabSize(guest.StepTakenOver)], 0)
			_ = os.WriteFile(path, data, 0o600)
		}
	}
	send(machine.Message{Exit: &machine.Exit{}})
}

func options(t *testing.T, mode string) (Options, *bytes.Buffer) {
	t.Helper()
	rig := qemutest.New(t, mode)
	out := new(bytes.Buffer)
	return Options{
		Kernel: rig.Kernel, Tests: rig.Kernel, VMMTests: rig.Kernel, Agent: rig.Agent, QEMU: rig.QEMU, Firmware: rig.Kernel,
		Report: filepath.Join(rig.Dir, "out", "report.json"), Timeout: 10 * time.Minute, Out: out,
	}, out
}

// nothingLeft: neither files of the runner nor parts of a report.
func nothingLeft(t *testing.T, o Options) {
	t.Helper()
	qemutest.NothingLeft(t)
	parts, err := filepath.Glob(filepath.Join(filepath.Dir(o.Report), ".*"))
	require.NoError(t, err)
	assert.Empty(t, parts)
}

func TestRunFollowsTheTestsToTheReport(t *testing.T) {
	o, out := options(t, "passes")
	r, err := Run(context.Background(), o)
	require.NoError(t, err)
	assert.Empty(t, r.Error)
	assert.False(t, r.OK, "of the tests that have to pass only one was there")
	assert.Equal(t, "7.3.4", r.Kernel)
	assert.Equal(t, "10.0.2 (Debian)", r.QEMU)
	assert.Equal(t, "0d44101b", r.SMMU.IDR[0])
	assert.Equal(t, []Test{
		{Name: "TestUnnestedKernel", Outcome: Pass, Seconds: 0.5},
		{Name: "TestStage1Kernel", Outcome: Pass, Seconds: 0.5},
		{Name: "TestStage2Kernel", Outcome: Pass, Seconds: 0.5},
		{Name: "TestIncoherentKernel", Outcome: Pass, Seconds: 0.5},
		{Name: "TestKernelConformance", Outcome: Pass, Seconds: 1.5},
		{Name: "Test", Outcome: Pass, Seconds: 0.5},
	}, r.Tests)
	assert.Equal(t, Figures{Hosts: 2, Figures: machine.Figures{Ioctls: 42}}, r.Figures)
	assert.Equal(t, "6.1.0", r.Guest.Release)
	assert.Len(t, r.Guest.Steps, len(guest.LabSteps))
	assert.EqualValues(t, guest.TestSize, r.Guest.NVMe)
	assert.Empty(t, r.Warnings, "the guest's panic is as planned")
	assert.Contains(t, out.String(), "[host ] Booting Linux.[2J on the host", "no escape sequence of a console may reach the terminal")
	assert.Contains(t, out.String(), "[tests] pass: TestKernelConformance")
	assert.Contains(t, out.String(), "NOT OK: ")
	data, err := os.ReadFile(o.Report)
	require.NoError(t, err)
	assert.Contains(t, string(data), `"ok": false`)
	nothingLeft(t, o)
}

func TestRunThatFailsSaysWhatWasLastSeen(t *testing.T) {
	for _, tt := range []struct{ mode, want string }{
		{"panics", "the machine went down before the program ended"},
		{"talks nonsense", "the machine sent what is no message"},
		{"gives up", "no vfio-pci"},
		{"VMM fails", "the VMM failed: the guest did not end"},
		{"no IORT", "reading the IORT: iommulab: not an IORT"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			o, _ := options(t, tt.mode)
			r, err := Run(context.Background(), o)
			require.NoError(t, err)
			assert.Contains(t, r.Error, tt.want)
			assert.Contains(t, r.Error, "in stage")
			assert.False(t, r.OK)
			nothingLeft(t, o)
		})
	}
}

func TestKernelWarningsFailTheRun(t *testing.T) {
	o, _ := options(t, "warns")
	r, err := Run(context.Background(), o)
	require.NoError(t, err)
	assert.Equal(t, []string{"host: WARNING: CPU: 0 PID: 1 at drivers/iommu/iommufd/main.c:1"}, r.Warnings)
	assert.False(t, r.OK)
}

// However little time there is.
func TestRunThatTakesTooLong(t *testing.T) {
	for _, timeout := range []time.Duration{time.Nanosecond, 100 * time.Millisecond, 2 * time.Second} {
		o, _ := options(t, "hangs")
		o.Timeout = timeout
		r, err := Run(context.Background(), o)
		require.NoError(t, err)
		assert.Contains(t, r.Error, "the lab did not end within "+timeout.String()+" (-timeout)")
		nothingLeft(t, o)
	}
}

func TestInterruptedRunLeavesNothing(t *testing.T) {
	o, _ := options(t, "hangs")
	ctx, cancel := context.WithCancelCause(context.Background())
	o.Out = qemutest.When("TestKernelConformance", func() { cancel(boottest.ErrInterrupted) })
	_, err := Run(ctx, o)
	require.ErrorIs(t, err, boottest.ErrInterrupted)
	assert.NoFileExists(t, o.Report)
	nothingLeft(t, o)
}

func TestBadInputRunsNothing(t *testing.T) {
	for _, tt := range []struct {
		name, mode string
		edit       func(*Options)
		want       string
	}{
		{"no kernel", "passes", func(o *Options) { o.Kernel = "" }, "make lab-kernel builds one"},
		{"no such kernel", "passes", func(o *Options) { o.Kernel = "/nonexistent" }, "the kernel: stat /nonexistent"},
		{"no arm64 kernel", "passes", func(o *Options) { o.Kernel = o.QEMU }, "not an arm64 Linux kernel image"},
		{"no tests", "passes", func(o *Options) { o.Tests = "/nonexistent" }, "the tests: open /nonexistent"},
		{"no firmware", "passes", func(o *Options) { o.Firmware = "/nonexistent" }, "the firmware: stat /nonexistent"},
		{"no VMM", "passes", func(o *Options) { o.Agent = "/nonexistent" }, "the VMM: open /nonexistent"},
		{"nothing beside the program", "passes", func(o *Options) { o.Tests = "" }, "run make lab, or give it with -tests FILE"},
		{"no emulator", "passes", func(o *Options) { o.QEMU = "/nonexistent" }, "/nonexistent"},
		{"another emulator", "no QEMU", func(*Options) {}, "is not QEMU"},
		{"an old emulator", "old", func(*Options) {}, "9.1 or later is needed"},
		{"report is a directory", "passes", func(o *Options) { o.Report = filepath.Dir(o.Kernel) }, "no regular file"},
		{"no place for files", "passes", func(*Options) { os.Remove(os.Getenv("TMPDIR")) }, "TMPDIR names another"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, _ := options(t, tt.mode)
			tt.edit(&o)
			_, err := Run(context.Background(), o)
			var input *boottest.InputError
			require.ErrorAs(t, err, &input)
			assert.ErrorContains(t, err, tt.want)
		})
	}
}

func TestOverrideStandsBeforeAnotherArchive(t *testing.T) {
	table, err := os.ReadFile("testdata/iort-qemu-10.0.bin")
	require.NoError(t, err)
	archive, err := acpiOverride(table, CanWBS)
	require.NoError(t, err)
	assert.Equal(t, "070701", string(archive[:6]), "newc, not compressed")
	assert.Contains(t, string(archive), "kernel/firmware/acpi/iort.aml\x00")
	assert.Zero(t, len(archive)%4)
}

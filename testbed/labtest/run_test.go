package labtest

import (
	"bufio"
	"bytes"
	"cmp"
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

// actQEMU acts as QEMU with a machine of the lab.
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
			why, guestLine := "the guest did not end", "Unable to mount root fs"
			send(machine.Message{Guest: &machine.Guest{Line: &guestLine}})
			send(machine.Message{Line: &why})
			send(machine.Message{Exit: &machine.Exit{Status: 1}})
			return
		}
		actVMM(send)
		return
	}
	if strings.HasSuffix(os.Args[len(os.Args)-1], machine.OwnRole) {
		actOwn(send, mode)
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
		say(mark + "=== RUN   TestRefusesWithoutCANWBS")
		say(mark + "--- PASS: TestRefusesWithoutCANWBS (0.50s)")
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
	say(mark + "=== NAME  ")
	send(machine.Message{SMMU: &machine.SMMU{IDR: [6]uint32{0xd44101b}}})
	send(machine.Message{Figures: &machine.Figures{Ioctls: 34}})
	switch mode {
	case "panics", "crashes":
		say(mark + "=== RUN   TestKernelBatchIsOneIoctl")
		channel.Flush()
		if mode == "panics" {
			fmt.Println("Kernel panic - not syncing: no init")
			return
		}
		fmt.Println("panic: runtime error: index out of range")
		for range 100 {
			fmt.Println("goroutine 1 [running]:")
		}
		fmt.Println("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200")
		return
	case "QEMU fails":
		fmt.Fprintln(os.Stderr, "qemu-system-aarch64: cannot set up guest memory")
		os.Exit(3)
	case "exits":
		send(machine.Message{Exit: &machine.Exit{Status: 2}})
		return
	case "malformed message":
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

// actOwn acts as package ownsmmu.
func actOwn(send func(machine.Message), mode string) {
	inner := func(m machine.Message) { send(machine.Message{Inner: &m}) }
	say := func(line string) { inner(machine.Message{Line: &line}) }
	booting, log := "Booting Linux", "WARNING: CPU: 0 PID: 1 at drivers/vfio/vfio_main.c:1"
	send(machine.Message{Hello: &machine.Hello{Release: "7.3.4"}})
	send(machine.Message{Guest: &machine.Guest{Line: &booting}})
	if mode == "guest does not start" {
		why := "the guest's init did not start within 4m0s"
		send(machine.Message{Line: &why})
		send(machine.Message{Exit: &machine.Exit{Status: 1}})
		return
	}
	inner(machine.Message{Hello: &machine.Hello{Release: "7.3.4"}})
	say(mark + "=== RUN   TestKernelConformance/Close/Stream")
	say(mark + "--- PASS: TestKernelConformance/Close/Stream (0.50s)")
	say(mark + "--- PASS: TestKernelConformance (0.50s)")
	if mode == "guest warns" {
		inner(machine.Message{Log: &log})
	}
	inner(machine.Message{Figures: &machine.Figures{Ioctls: 1}})
	inner(machine.Message{Exit: &machine.Exit{}})
	send(machine.Message{Own: &machine.Own{Moves: map[string]int{"CMD_SYNC": minMoves}, Commands: map[string]uint64{"CMD_SYNC": 7}}})
	send(machine.Message{Exit: &machine.Exit{}})
}

// actVMM acts as package vm.
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
	// The arguments name the image of the NVMe disk.
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
	file := func(name string, data []byte) string {
		path := filepath.Join(rig.Dir, name)
		require.NoError(t, os.WriteFile(path, data, 0o700))
		return path
	}
	traces := slices.Clone(qemutest.KernelStrings)
	for _, option := range kernelOptions {
		traces = append(traces, option.trace)
	}
	out := new(bytes.Buffer)
	return Options{
		Kernel:   file("lab-image", qemutest.Image(traces...)),
		Tests:    file("iommufd.test", qemutest.Agent(testsPackage)),
		VMMTests: file("vmm.test", qemutest.Agent(vmmTestsPackage)),
		Agent:    rig.Agent, QEMU: rig.QEMU, Firmware: file("QEMU_EFI.fd", []byte("volume_FVH")),
		Report: filepath.Join(rig.Dir, "out", "report.json"), Timeout: 10 * time.Minute, Out: out,
	}, out
}

// nothingLeft checks that no temporary file and no part of a report is left.
func nothingLeft(t *testing.T, o Options) {
	t.Helper()
	qemutest.NothingLeft(t)
	parts, err := filepath.Glob(filepath.Join(filepath.Dir(o.Report), ".*"))
	require.NoError(t, err)
	assert.Empty(t, parts)
}

func TestReportHasWhatTheMachinesSent(t *testing.T) {
	o, out := options(t, "passes")
	r, err := Run(context.Background(), o)
	require.NoError(t, err)
	assert.Empty(t, r.Error)
	assert.False(t, r.OK, "most of the tests that must pass are missing")
	assert.Equal(t, "7.3.4", r.Kernel)
	assert.Equal(t, "10.0.2 (Debian)", r.QEMU)
	assert.Equal(t, "0d44101b", r.SMMU.IDR[0])
	assert.Equal(t, []Test{
		{Machine: machineIORT, Name: "TestRefusesWithoutCANWBS", Outcome: Pass, Seconds: 0.5},
		{Machine: machineStage1, Name: "TestRefusesStage1Alone", Outcome: Pass, Seconds: 0.5},
		{Machine: machineStage2, Name: "TestRefusesStage2Alone", Outcome: Pass, Seconds: 0.5},
		{Machine: machineIncoherent, Name: "TestRefusesIncoherentSMMU", Outcome: Pass, Seconds: 0.5},
		{Machine: machineQEMU, Name: "TestKernelConformance", Outcome: Pass, Seconds: 1.5},
		{Machine: machineVMM, Name: "Test", Outcome: Pass, Seconds: 0.5},
	}, slices.DeleteFunc(slices.Clone(r.Tests), func(t Test) bool { return isOwn(t.Machine) }))
	n := len(r.Own)
	assert.Equal(t, Figures{Hosts: 2 + n, Figures: machine.Figures{Ioctls: 42 + uint64(n)}}, r.Figures)
	assert.Equal(t, "6.1.0", r.Guest.Release)
	assert.Len(t, r.Guest.Steps, len(guest.LabSteps))
	assert.EqualValues(t, guest.TestSize, r.Guest.NVMe)
	assert.Empty(t, r.Warnings, "the guest's panic is planned")
	assert.Contains(t, out.String(), "[host ] Booting Linux.[2J on the host", "no escape sequence of a console reaches the terminal")
	assert.Contains(t, out.String(), "[tests] pass: TestKernelConformance")
	assert.Contains(t, out.String(), "NOT OK: ")
	data, err := os.ReadFile(o.Report)
	require.NoError(t, err)
	assert.Contains(t, string(data), `"ok": false`)
	nothingLeft(t, o)
}

// A run that ends early reports one cause, with the exit status and the last lines of the program
// that failed. The report omits the checks that the run did not reach.
func TestRunThatEndsEarlyReportsItsCauseAlone(t *testing.T) {
	for _, tt := range []struct {
		mode, cause, status, console, last, only string
	}{
		{"panics", "the kernel panicked (QEMU: exit status 0) during TestKernelBatchIsOneIoctl", "exit status 0", "host", "Kernel panic - not syncing: no init", ""},
		{"crashes", "the kernel panicked because its init exited with status 2: panic: runtime error: index out of range (QEMU: exit status 0) during TestKernelBatchIsOneIoctl",
			"exit status 0", "host", "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000200", ""},
		{"QEMU fails", "the machine ended before its program", "exit status 3", "qemu", "qemu-system-aarch64: cannot set up guest memory", ""},
		{"malformed message", "the machine sent a malformed message", "exit status 0", "tests", "pass: TestKernelConformance", ""},
		{"gives up", "no vfio-pci", "exit status 0", "tests", "pass: TestKernelConformance", ""},
		{"exits", "the tests exited with status 2, and no test failed", "", "tests", "pass: TestKernelConformance", ""},
		{"VMM fails", "the VMM exited with status 1: the guest did not end", "", "guest", "Unable to mount root fs", ""},
		{"guest does not start", "the VMM exited with status 1: the guest's init did not start within 4m0s", "", "guest", "Booting Linux", machineOwn},
		{"no IORT", "reading the IORT: labtest: not an IORT", "", "tests", "pass: TestRefusesWithoutCANWBS", ""},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			o, out := options(t, tt.mode)
			o.Only = tt.only
			r, err := Run(context.Background(), o)
			require.NoError(t, err)
			assert.Contains(t, r.Error, tt.cause)
			assert.Contains(t, r.Error, "in stage")
			assert.Contains(t, r.Error, tt.last)
			assert.False(t, r.OK)
			require.NotNil(t, r.LastSeen)
			assert.Equal(t, tt.status, r.LastSeen.ExitStatus)
			assert.Equal(t, tt.console, r.LastSeen.Console)
			assert.Contains(t, r.LastSeen.Lines[len(r.LastSeen.Lines)-1], tt.last)
			for _, c := range r.Checks {
				assert.True(t, c.OK, "%s: %s", c.Name, c.Detail)
			}
			assert.Len(t, r.NotReached, len(r.checks())-len(r.Checks))
			assert.NotContains(t, out.String(), "FAILED")
			assert.Contains(t, out.String(), "\nError\n  "+r.Error)
			data, err := os.ReadFile(o.Report)
			require.NoError(t, err)
			assert.NotContains(t, string(data), `"ok": false,\n      "detail"`)
			assert.Contains(t, string(data), `"not_reached": [`)
			nothingLeft(t, o)
		})
	}
}

func TestKernelWarningsFailTheRun(t *testing.T) {
	for mode, want := range map[string]string{
		"warns":       "host: WARNING: CPU: 0 PID: 1 at drivers/iommu/iommufd/main.c:1",
		"guest warns": "guest: WARNING: CPU: 0 PID: 1 at drivers/vfio/vfio_main.c:1",
	} {
		o, _ := options(t, mode)
		if mode == "guest warns" {
			o.Only = machineOwn
		}
		r, err := Run(context.Background(), o)
		require.NoError(t, err)
		assert.Equal(t, []string{want}, r.Warnings)
		assert.False(t, r.OK)
	}
}

// A run of one machine runs the machine that reads the IORT if it needs that, and is judged by its
// own checks.
func TestOnlyRunsOneMachine(t *testing.T) {
	for name, want := range map[string][]string{
		machineOwn:    {machineOwn},
		machineStage1: {machineStage1},
		machineQEMU:   {machineIORT, machineQEMU},
	} {
		o, _ := options(t, "passes")
		o.Only = name
		r, err := Run(context.Background(), o)
		require.NoError(t, err)
		assert.Empty(t, r.Error)
		assert.Equal(t, want, r.Matrix.Machines)
		if name == machineOwn {
			require.Len(t, r.Own, 1)
			assert.Equal(t, minMoves, r.Own[0].moves())
		}
		assert.Equal(t, name != machineQEMU, r.OK, "QEMU's tests are incomplete here")
	}
}

func TestTimeoutEndsTheRunAtAnyPoint(t *testing.T) {
	for _, timeout := range []time.Duration{time.Nanosecond, 100 * time.Millisecond, 2 * time.Second} {
		o, _ := options(t, "hangs")
		o.Timeout = timeout
		r, err := Run(context.Background(), o)
		require.NoError(t, err)
		assert.Contains(t, r.Error, "the lab did not end within "+timeout.String()+" (-timeout)")
		nothingLeft(t, o)
	}
}

func TestInterruptedRunLeavesNoFile(t *testing.T) {
	o, _ := options(t, "hangs")
	ctx, cancel := context.WithCancelCause(context.Background())
	o.Out = qemutest.When("TestKernelConformance", func() { cancel(boottest.ErrInterrupted) })
	_, err := Run(ctx, o)
	require.ErrorIs(t, err, boottest.ErrInterrupted)
	assert.NoFileExists(t, o.Report)
	nothingLeft(t, o)
}

// Every bad input is an error that says what to do. Nothing runs, and nothing is printed.
func TestBadInputRunsNothing(t *testing.T) {
	for _, tt := range []struct {
		name, mode string
		edit       func(*Options)
		want       string
	}{
		{"no kernel", "", func(o *Options) { o.Kernel = "" }, "no kernel: give an arm64 image with -kernel IMAGE (make lab-kernel builds one)"},
		{"no such kernel", "", func(o *Options) { o.Kernel = "/nonexistent" }, "the kernel: stat /nonexistent: no such file or directory (give"},
		{"not an arm64 kernel", "", func(o *Options) { o.Kernel = o.QEMU }, "not an arm64 Linux kernel image"},
		{"a kernel without the lab's options", "", func(o *Options) { o.Kernel = filepath.Join(filepath.Dir(o.Kernel), "Image") }, "lacks CONFIG_IOMMUFD, CONFIG_VFIO_PCI, CONFIG_BLK_DEV_NVME, built in"},
		{"no tests", "", func(o *Options) { o.Tests = "/nonexistent" }, "the tests of bridge/iommufd: open /nonexistent: no such file or directory (run make lab"},
		{"tests of another package", "", func(o *Options) { o.Tests = o.VMMTests }, "testbed/vmm.test, not github.com/go-vsmmu/vsmmuv3/testbed/labtest/kerneltest.test (run make lab"},
		{"tests that are not a program", "", func(o *Options) { o.VMMTests = o.Kernel }, "is not an ELF file (run make lab"},
		{"no firmware", "", func(o *Options) { o.Firmware = "/nonexistent" }, "the firmware: open /nonexistent: no such file or directory (give QEMU_EFI.fd"},
		{"firmware is a directory", "", func(o *Options) { o.Firmware = filepath.Dir(o.Kernel) }, "is a directory (give QEMU_EFI.fd"},
		{"another file as firmware", "", func(o *Options) { o.Firmware = o.Kernel }, "is not UEFI firmware (give QEMU_EFI.fd"},
		{"no agent", "", func(o *Options) { o.Agent = "/nonexistent" }, "the agent: open /nonexistent: no such file or directory (run make lab"},
		{"an agent for this machine", "", func(o *Options) { o.Agent = o.QEMU }, "not for arm64 (run make lab"},
		{"nothing beside the program", "", func(o *Options) { o.Tests = "" }, "run make lab, or give it with -tests FILE"},
		{"no emulator", "", func(o *Options) { o.QEMU = "/nonexistent" }, "the emulator: /nonexistent --version"},
		{"another emulator", "no QEMU", func(*Options) {}, "is not QEMU"},
		{"an old emulator", "old", func(*Options) {}, "is QEMU 9.0, whose SMMUv3 does not nest (give QEMU 9.1 or later with -qemu FILE"},
		{"no such machine", "", func(o *Options) { o.Only = "vax" }, `no machine "vax" (-only takes one of qemu-iort, qemu-stage1`},
		{"IDs of all machines", "", func(o *Options) { o.IDs = IDs{"OAS": 5} }, "-id needs -only with a machine whose SMMU is ours, such as -only own"},
		{"IDs of QEMU's SMMU", "", func(o *Options) { o.Only, o.IDs = machineQEMU, IDs{"OAS": 5} }, "-id needs -only with a machine whose SMMU is ours"},
		{"an SMMU that cannot be", "", func(o *Options) { o.Only, o.IDs = machineOwn, IDs{"OAS": 6, "GRAN64K": 0} }, "-id OAS=6 GRAN64K=0: soft: new host: "},
		{"tests of all machines", "", func(o *Options) { o.Run = "Close" }, "-run needs -only with a machine that runs tests"},
		{"tests with a space", "", func(o *Options) { o.Only, o.Run = machineOwn, "a b" }, `-run "a b": a kernel's command line takes no spaces`},
		{"report is a directory", "", func(o *Options) { o.Report = filepath.Dir(o.Kernel) }, "not a regular file"},
		{"report is an input", "", func(o *Options) { o.Report = o.Kernel }, "would overwrite the input of -kernel (give another path)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, out := options(t, cmp.Or(tt.mode, "passes"))
			tt.edit(&o)
			_, err := Run(context.Background(), o)
			var input *boottest.InputError
			require.ErrorAs(t, err, &input)
			assert.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error(), "\n")
			assert.Empty(t, out.String())
		})
	}
}

func TestMachineThatCannotStartIsABadInput(t *testing.T) {
	o, _ := options(t, "passes")
	require.NoError(t, os.Remove(os.Getenv("TMPDIR")))
	_, err := Run(context.Background(), o)
	var input *boottest.InputError
	require.ErrorAs(t, err, &input)
	assert.ErrorContains(t, err, "set TMPDIR")
}

// Check judges the files that exist. Files that make builds or fetches later may be missing.
func TestCheckRunsBeforeAnythingIsBuilt(t *testing.T) {
	o, out := options(t, "passes")
	o.Tests, o.VMMTests, o.Agent, o.QEMU, o.Firmware = "", "", "", "", ""
	require.NoError(t, Check(context.Background(), o))
	for _, kernel := range []string{"", "/nonexistent", os.Args[0]} {
		o.Kernel = kernel
		var input *boottest.InputError
		require.ErrorAs(t, Check(context.Background(), o), &input)
	}
	o, _ = options(t, "passes")
	o.Report = filepath.Dir(o.Kernel)
	assert.ErrorContains(t, Check(context.Background(), o), "not a regular file")
	o, _ = options(t, "old")
	assert.ErrorContains(t, Check(context.Background(), o), "9.1 or later")
	assert.Empty(t, out.String())
}

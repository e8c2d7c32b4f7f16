package boottest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/boottest/vm"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu/qemutest"
	"github.com/go-vsmmu/vsmmuv3/testbed/report"
	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

func TestMain(m *testing.M) { qemutest.Main(m, actQEMU) }

// actQEMU acts as QEMU with the emulated host in it.
func actQEMU(mode string, channel *os.File) {
	s := &sender{w: channel}
	if !slices.Contains(os.Args, "--version") {
		fmt.Println("Booting Linux\x1b[2J on the host")
	}
	switch mode {
	case "reports":
		s.Stage("the guest's kernel boots")
		s.Line("guest", "hello from the guest")
		_ = s.send(message{Report: &report.Report{Guest: report.Guest{PoweredOff: true}}})
		word, _ := bufio.NewReader(channel).ReadString('\n')
		fmt.Printf("was told %q\n", word)
	case "measures":
		_ = s.send(message{Report: &report.Report{
			Guest: report.Guest{PoweredOff: true}, Bench: &report.Bench{Ratio: 1.5, Peer: "QEMU\x1b[2J"},
		}})
	case "panics":
		fmt.Println("Kernel panic - not syncing: no init")
		fmt.Println("---[ end Kernel panic ]---")
	case "gives up":
		_ = s.send(message{Error: "no /dev/kvm"})
		_, _ = bufio.NewReader(channel).ReadString('\n')
	case "the host's init fails":
		fmt.Println(progress.InitFailed + "no driver virtio_console")
		fmt.Println("reboot: Power down")
	case "crashes":
		fmt.Fprintln(os.Stderr, "qemu: fatal: assertion failed")
		os.Exit(134)
	case "dies behind the guest":
		s.Stage("the guest's kernel boots")
		s.Line("guest", "hello from the guest")
		fmt.Println("Kernel panic - not syncing: out of memory")
	case "the guest panics":
		s.Stage("the guest's kernel boots")
		s.Line("guest", "Kernel panic - not syncing: no init found")
		s.Line("guest", "---[ end Kernel panic ]---")
		_ = s.send(message{Report: &report.Report{Error: "the guest did not power off"}})
		_, _ = bufio.NewReader(channel).ReadString('\n')
	case "records":
		_ = s.send(message{Transcript: []byte("vsmmu-tr new")})
		_ = s.send(message{Report: &report.Report{Guest: report.Guest{Release: "6.1.0", PoweredOff: true}}})
		_, _ = bufio.NewReader(channel).ReadString('\n')
	case "records, and fails":
		_ = s.send(message{Transcript: []byte("vsmmu-tr new")})
	case "records, and hangs":
		_ = s.send(message{Transcript: []byte("vsmmu-tr new")})
		s.Stage("the guest hangs")
		qemutest.Hang()
	case "no version":
		fmt.Fprintln(os.Stderr, "qemu: libpixman-1.so.0: cannot open shared object file")
		os.Exit(127)
	case "no QEMU":
		fmt.Println("true (GNU coreutils) 9.1")
	case "refuses to start":
		fmt.Fprintln(os.Stderr, "qemu: unsupported machine type")
		os.Exit(1)
	case "talks nonsense":
		fmt.Fprintln(channel, "{")
	case "hangs, but stops":
		s.Line("guest", "the guest's last line")
		word, _ := bufio.NewReader(channel).ReadString('\n')
		_ = s.send(message{Report: &report.Report{Error: "was told to " + strings.TrimSpace(word)}})
	case "hangs":
		qemutest.Hang()
	}
}

func options(t *testing.T, mode string) (Options, *bytes.Buffer) {
	t.Helper()
	rig := qemutest.New(t, mode)
	out := new(bytes.Buffer)
	return Options{
		Kernel: rig.Kernel, HostKernel: rig.Kernel, Agent: rig.Agent, QEMU: rig.QEMU, Accel: "tcg", Mem: MinMem, Transport: "mmio", PASIDBits: 6, Stage: 1,
		Report: filepath.Join(rig.Dir, "out", "report.json"), Timeout: 10 * time.Minute, Out: out,
	}, out
}

// nothingLeft: neither files of the runner nor parts of a report.
func nothingLeft(t *testing.T, o Options, reported bool) {
	t.Helper()
	qemutest.NothingLeft(t)
	out, _ := os.ReadDir(filepath.Dir(o.Report))
	var names []string
	for _, f := range out {
		names = append(names, f.Name())
	}
	if reported {
		assert.Equal(t, []string{"report.json"}, names)
	} else {
		assert.Empty(t, names)
	}
}

func TestBootFollowsTheHostToItsReport(t *testing.T) {
	o, out := options(t, "reports")
	r, err := Boot(context.Background(), o)
	require.NoError(t, err)
	assert.Empty(t, r.Error)
	assert.False(t, r.OK, "the checks are made of what was reported, and nothing was")
	assert.NotEmpty(t, r.Checks)
	assert.Equal(t, "tcg", r.Accel)
	assert.Contains(t, out.String(), "[host ] Booting Linux.[2J on the host", "no escape sequence of a console may reach the terminal")
	assert.Contains(t, out.String(), "[guest] hello from the guest")
	assert.Contains(t, out.String(), `[host ] was told "heard\n"`, "or what it said last might be lost with it")
	assert.Contains(t, out.String(), "stage: the guest's kernel boots")
	var phases []string
	for _, p := range r.Phases {
		phases = append(phases, p.Name)
	}
	assert.Equal(t, []string{"the kernels, their modules and the initramfs are read", "the host's kernel boots", "the guest's kernel boots"}, phases)
	nothingLeft(t, o, true)
}

func TestBootThatFailsSaysWhatWasLastSeen(t *testing.T) {
	for _, tt := range []struct{ mode, want string }{
		{"panics", `the emulated host ended without a report (QEMU: exit status 0), in stage "the host's kernel boots"; last seen of the host: "Kernel panic - not syncing: no init"`},
		{"gives up", "the host gave up: no /dev/kvm"},
		{"the host's init fails", `(QEMU: exit status 0), in stage "the host's kernel boots"; last seen of the host: "init failed: no driver virtio_console"`},
		{"refuses to start", `the emulated host ended without a report (QEMU: exit status 1), in stage "the host's kernel boots"; last seen of the qemu: "qemu: unsupported machine type"`},
		{"crashes", `(QEMU: exit status 134), in stage "the host's kernel boots"; last seen of the qemu: "qemu: fatal: assertion failed"`},
		{"dies behind the guest", `(QEMU: exit status 0), in stage "the guest's kernel boots"; last seen of the host: "Kernel panic - not syncing: out of memory"`},
		{"the guest panics", `the guest did not power off, in stage "the guest's kernel boots"; last seen of the guest: "Kernel panic - not syncing: no init found"`},
		{"talks nonsense", "the host sent a malformed message"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			o, out := options(t, tt.mode)
			r, err := Boot(context.Background(), o)
			require.NoError(t, err)
			assert.Contains(t, r.Error, tt.want)
			assert.False(t, r.OK)
			assert.Empty(t, r.Checks, "none was reached")
			_, summary, _ := strings.Cut(out.String(), "\nTime\n")
			summary = out.String()[strings.Index(out.String(), "\nError\n"):] + summary
			assert.NotContains(t, summary, "FAILED")
			assert.Contains(t, summary, r.Error, "the cause")
			assert.Contains(t, summary, "NOT OK: no check was reached")
			for _, line := range r.LastSeen.Lines {
				assert.Contains(t, summary, "  "+strings.ReplaceAll(line, "\x1b", ".")+"\n", "the last lines")
			}
			written, err := os.ReadFile(o.Report)
			require.NoError(t, err)
			assert.Contains(t, string(written), `"checks": []`)
			nothingLeft(t, o, true)
		})
	}
}

func TestBootThatIsGivenUpReportsHowFarItCame(t *testing.T) {
	o, _ := options(t, "hangs, but stops")
	ctx, cancel := context.WithCancelCause(context.Background())
	o.Out = qemutest.When("the guest's last line", func() { cancel(errors.New("too quiet")) })
	r, err := Boot(ctx, o)
	require.NoError(t, err)
	assert.Equal(t, `too quiet: was told to stop, in stage "the host's kernel boots"; last seen of the guest: "the guest's last line"`, r.Error)
	nothingLeft(t, o, true)
}

// However little time there is.
func TestBootThatTakesTooLong(t *testing.T) {
	for _, timeout := range []time.Duration{time.Nanosecond, 100 * time.Millisecond} {
		o, _ := options(t, "hangs, but stops")
		o.Timeout = timeout
		r, err := Boot(context.Background(), o)
		require.NoError(t, err)
		assert.Contains(t, r.Error, "the boot did not end within "+timeout.String()+" (-timeout)")
		nothingLeft(t, o, true)
	}
}

// edited returns a change of one file of the rig.
func edited(name string, edit func([]byte) []byte) func(*Options) {
	return func(o *Options) {
		path := filepath.Join(filepath.Dir(o.Agent), name)
		data, _ := os.ReadFile(path)
		_ = os.WriteFile(path, edit(data), 0o700)
	}
}

// lacking returns a change of a kernel that takes a string from it.
func lacking(text string) func([]byte) []byte {
	return func(image []byte) []byte { return bytes.ReplaceAll(image, []byte(text), make([]byte, len(text))) }
}

// hostKernel returns a change that gives the host a kernel of its own, which lacks a string.
func hostKernel(lacks string) func(*Options) {
	return func(o *Options) {
		data, _ := os.ReadFile(o.Kernel)
		o.HostKernel = o.Kernel + "-host"
		_ = os.WriteFile(o.HostKernel, lacking(lacks)(data), 0o600)
	}
}

// benchOptions are options with a peer: an ELF header is all that is looked at of it.
func benchOptions(t *testing.T, mode string) (Options, *bytes.Buffer) {
	t.Helper()
	o, out := options(t, mode)
	o.Rounds, o.Peer = 1, t.TempDir()
	header := make([]byte, 64)
	copy(header, "\x7fELF\x02\x01\x01")
	header[16], header[18], header[20], header[52] = 3, 183, 1, 64 // ET_DYN, EM_AARCH64
	for _, name := range []string{vm.PeerProgram, "lib/ld-linux-aarch64.so.1"} {
		require.NoError(t, os.MkdirAll(filepath.Join(o.Peer, filepath.Dir(name)), 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(o.Peer, name), header, 0o755))
	}
	return o, out
}

func TestBenchLeavesTheComparison(t *testing.T) {
	o, out := benchOptions(t, "measures")
	b, err := Bench(context.Background(), o)
	require.NoError(t, err)
	assert.Empty(t, b.Error)
	assert.Equal(t, "tcg", b.Accel)
	assert.Len(t, b.Phases, 2)
	assert.Contains(t, out.String(), "1.50")
	assert.NotContains(t, out.String(), "\x1b", "nothing that comes from a machine reaches the terminal raw")
	written, err := os.ReadFile(o.Report)
	require.NoError(t, err)
	assert.Contains(t, string(written), `"ratio": 1.5`)
	nothingLeft(t, o, true)
}

func TestBenchThatFailsSaysWhatWasLastSeen(t *testing.T) {
	o, _ := benchOptions(t, "panics")
	b, err := Bench(context.Background(), o)
	require.NoError(t, err)
	assert.Contains(t, b.Error, `last seen of the host: "Kernel panic - not syncing: no init"`)
	nothingLeft(t, o, true)
}

func TestBadInputMeasuresNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Options)
		want string
	}{
		{"no peer", func(o *Options) { o.Peer = "/nonexistent" }, "run make bench-boot, or give one with -peer DIR"},
		{"a peer without QEMU", func(o *Options) { o.Peer = os.TempDir() }, "the QEMU to compare with: "},
		{"an agent that is none", func(o *Options) { o.Agent = o.Kernel }, "is no ELF file"},
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

func TestInterruptedBootLeavesNothing(t *testing.T) {
	o, _ := options(t, "hangs")
	ctx, cancel := context.WithCancelCause(context.Background())
	o.Out = qemutest.When("Booting Linux", func() { cancel(ErrInterrupted) })
	_, err := Boot(ctx, o)
	require.ErrorIs(t, err, ErrInterrupted)
	nothingLeft(t, o, false)
}

func TestBadInputBootsNothing(t *testing.T) {
	for _, tt := range []struct {
		name string
		edit func(*Options)
		want string
	}{
		{"no kernel", func(o *Options) { o.Kernel = "/nonexistent" }, "the guest's kernel: stat /nonexistent"},
		{"no arm64 kernel", func(o *Options) { o.Kernel = o.QEMU }, "not an arm64 Linux kernel image"},
		{"host's kernel is none", func(o *Options) { o.HostKernel = o.QEMU }, "the host's kernel: "},
		{"no modules", func(o *Options) { o.Modules = "/nonexistent" }, "the guest's modules: stat /nonexistent"},
		{"no agent", func(o *Options) { o.Agent = "/nonexistent" }, "run make, or give one with -agent FILE"},
		{"no emulator", func(o *Options) { o.QEMU = "/nonexistent" }, "apt-get install qemu-system-arm"},
		{"an emulator that cannot be started", func(o *Options) { o.QEMU = o.Kernel }, "permission denied"},
		{"an agent that is a directory", func(o *Options) { o.Agent = filepath.Dir(o.Kernel) }, "is a directory"},
		{"an agent that is no program", func(o *Options) { o.Agent = o.Kernel }, "is no ELF file (run make"},
		{"an agent for another machine", edited("agent", func(b []byte) []byte { b[18] = 62; return b }), "is for EM_X86_64, not for arm64"},
		{"an agent that is an object file", edited("agent", func(b []byte) []byte { b[16] = 1; return b }), "is no executable (ET_REL)"},
		{"an agent that needs libraries", edited("agent", func(b []byte) []byte { b[64] = 3; return b }), "is dynamically linked"},
		{"an agent that is cut off", edited("agent", func(b []byte) []byte { return b[:100] }), "the agent "},
		{"an agent in another language", edited("agent", func(b []byte) []byte { b[128] = 0; return b }), "is no Go program"},
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
		}, "exists and is no transcript"},
		{"a transcript over the report", func(o *Options) { o.Record = o.Report }, "-report and -record are the same file"},
		{"a transcript in no directory", func(o *Options) { o.Record = filepath.Join(o.Kernel, "t") }, "the transcript: "},
		{"unknown acceleration", func(o *Options) { o.Accel = "hvf" }, "-accel hvf: not one of [auto kvm tcg]"},
		{"no such transport", func(o *Options) { o.Transport = "usb" }, "-transport usb: not one of [mmio pci]"},
		{"a PCI device that stalls", func(o *Options) { o.Transport, o.Stalls = "pci", true }, "may stall"},
		{"no PASIDs", func(o *Options) { o.PASIDBits = 0 }, "PASIDs of 0 bits"},
		{"more PASIDs than there are", func(o *Options) { o.PASIDBits = 21 }, "PASIDs of 21 bits: give from 1 to 20"},
		{"a stage that there is not", func(o *Options) { o.Stage = 3 }, "stage 3: give 1 or 2"},
		{"stalls at stage 2", func(o *Options) { o.Stage, o.Stalls = 2, true }, "give -stage 2 or -stall"},
		{"too little memory", func(o *Options) { o.Mem = 1 << 20 }, "1 MiB of memory"},
		{"report in a file", func(o *Options) { o.Report = o.Kernel + "/report.json" }, "the report: "},
		{"report is a directory", func(o *Options) { o.Report = filepath.Dir(o.Kernel) }, "no regular file"},
		{"no place for files", func(o *Options) { os.Remove(os.Getenv("TMPDIR")) }, "TMPDIR names another"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o, _ := options(t, "reports")
			tt.edit(&o)
			_, err := Boot(context.Background(), o)
			var input *InputError
			require.ErrorAs(t, err, &input)
			assert.ErrorContains(t, err, tt.want)
			assert.NotContains(t, err.Error(), "\n")
		})
	}
}

func TestBootThatIsInterruptedKeepsTheEarlierReport(t *testing.T) {
	o, _ := options(t, "hangs")
	require.NoError(t, os.MkdirAll(filepath.Dir(o.Report), 0o755))
	require.NoError(t, os.WriteFile(o.Report, []byte(`{"ok":true}`), 0o644))
	ctx, cancel := context.WithCancelCause(context.Background())
	o.Out = qemutest.When("Booting Linux", func() { cancel(ErrInterrupted) })
	_, err := Boot(ctx, o)
	require.ErrorIs(t, err, ErrInterrupted)
	nothingLeft(t, o, true)
	data, err := os.ReadFile(o.Report)
	require.NoError(t, err)
	assert.Equal(t, `{"ok":true}`, string(data))
}

// The disk fills while the boot runs: here the report's directory goes away.
func TestBootPrintsItsSummaryBeforeItWritesTheReport(t *testing.T) {
	o, out := options(t, "reports")
	printed := o.Out
	o.Out = io.MultiWriter(printed, qemutest.When("Booting Linux", func() {
		assert.NoError(t, os.RemoveAll(filepath.Dir(o.Report)))
	}))
	r, err := Boot(context.Background(), o)
	require.ErrorIs(t, err, reportfile.ErrWrite)
	require.NotNil(t, r)
	assert.Contains(t, out.String(), "checks held")
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
		assert.NoDirExists(t, filepath.Dir(o.Report), "nothing was made")
	}
}

// record runs a boot that records over an earlier transcript, and returns what is at its path and at that of the part.
func record(t *testing.T, mode, earlier string, end func(*Options) context.Context) (whole, part string, out *bytes.Buffer) {
	t.Helper()
	o, out := options(t, mode)
	o.Record = filepath.Join(filepath.Dir(o.Kernel), "boot.vsmmu")
	if earlier != "" {
		require.NoError(t, os.WriteFile(o.Record, []byte(earlier), 0o644))
	}
	_, _ = Boot(end(&o), o)
	read := func(name string) string {
		data, _ := os.ReadFile(name)
		return string(data)
	}
	return read(o.Record), read(o.Record + ".part"), out
}

func toTheEnd(*Options) context.Context { return context.Background() }

func TestTranscriptOfABootThatReachedItsEndReplacesAnEarlierOne(t *testing.T) {
	whole, part, out := record(t, "records", "vsmmu-tr earlier", toTheEnd)
	assert.Equal(t, "vsmmu-tr new", whole)
	assert.Empty(t, part)
	assert.Contains(t, out.String(), "boot.vsmmu (replaces an earlier transcript)")

	whole, part, out = record(t, "records", "", toTheEnd)
	assert.Equal(t, "vsmmu-tr new", whole)
	assert.Empty(t, part)
	assert.NotContains(t, out.String(), "replaces")
}

func TestTranscriptOfABootThatFailedLeavesAnEarlierOne(t *testing.T) {
	whole, part, out := record(t, "records, and fails", "vsmmu-tr earlier", toTheEnd)
	assert.Equal(t, "vsmmu-tr earlier", whole)
	assert.Equal(t, "vsmmu-tr new", part)
	assert.Contains(t, out.String(), "boot.vsmmu.part (cut off")
}

func TestTranscriptOfAnInterruptedBootIsRemoved(t *testing.T) {
	for _, earlier := range []string{"", "vsmmu-tr earlier"} {
		whole, part, _ := record(t, "records, and hangs", earlier, func(o *Options) context.Context {
			ctx, cancel := context.WithCancelCause(context.Background())
			o.Out = qemutest.When("the guest hangs", func() { cancel(ErrInterrupted) })
			return ctx
		})
		assert.Equal(t, earlier, whole)
		assert.Empty(t, part)
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

func TestReceiveBoundsWhatItTakes(t *testing.T) {
	endless := io.MultiReader(strings.NewReader(`{"stage":"`), zeros{})
	_, err := receive(endless, sink{Progress: progress.New(io.Discard)})
	require.ErrorIs(t, err, bufio.ErrTooLong)
	assert.False(t, errors.Is(err, io.ErrUnexpectedEOF))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '0'
	}
	return len(p), nil
}

// What a transcript is called tells recordings apart.
func TestTitleOfATranscript(t *testing.T) {
	assert.Equal(t, "Image", (&Options{}).title("Image"))
	assert.Equal(t, "Image iommu.strict=0, disks on the PCI bus, by stage 2, with stalls, disks unbound and bound",
		(&Options{Cmdline: "iommu.strict=0", Transport: "pci", Stage: 2, Stalls: true, Rebind: true}).title("Image"))
}

// A transcript comes in pieces, and goes to its file; a full disk ends the boot.
func TestTranscriptGoesToItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "boot.vsmmu")
	tr, err := createTranscript(path)
	require.NoError(t, err)
	says := strings.NewReader(`{"transcript":"` + "dnNtbXU=" + `"}` + "\n" + `{"transcript":"LXRy"}` + "\n" + `{"report":{}}` + "\n")
	_, err = receive(says, sink{progress.New(io.Discard), tr})
	require.NoError(t, err)
	require.NoError(t, tr.keep(true, io.Discard))
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "vsmmu-tr", string(written))

	_, err = receive(strings.NewReader(`{"transcript":"dnNtbXU="}`+"\n"), sink{progress.New(io.Discard), tr})
	require.ErrorContains(t, err, "the transcript")

	_, err = createTranscript(filepath.Join(path, "no", "directory"))
	require.ErrorContains(t, err, "the transcript")
	tr, err = createTranscript("")
	require.NoError(t, err)
	assert.Nil(t, tr)
}

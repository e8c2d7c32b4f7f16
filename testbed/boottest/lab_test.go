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

// actQEMU behaves as QEMU with our host in it.
func actQEMU(mode string, channel *os.File) {
	s := &sender{w: channel}
	fmt.Println("Booting Linux\x1b[2J on the host")
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
		Kernel: rig.Kernel, HostKernel: rig.Kernel, Agent: rig.Kernel, QEMU: rig.QEMU, Accel: "tcg", Mem: MinMem, Transport: "mmio", PASIDBits: 6, Stage: 1,
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
		{"panics", `the emulated host went down without a report, in stage "the host's kernel boots"; last seen of the host: "Kernel panic - not syncing: no init"`},
		{"gives up", "the host gave up: no /dev/kvm"},
		{"refuses to start", "went down without a report"},
		{"talks nonsense", "the host sent what is no message"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			o, _ := options(t, tt.mode)
			r, err := Boot(context.Background(), o)
			require.NoError(t, err)
			assert.Contains(t, r.Error, tt.want)
			assert.False(t, r.OK)
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
	f, err := createTranscript(path)
	require.NoError(t, err)
	says := strings.NewReader(`{"transcript":"` + "dnNtbXU=" + `"}` + "\n" + `{"transcript":"LXRy"}` + "\n" + `{"report":{}}` + "\n")
	_, err = receive(says, sink{progress.New(io.Discard), f})
	require.NoError(t, err)
	written, err := os.ReadFile(path)
	require.NoError(t, err)
	assert.Equal(t, "vsmmu-tr", string(written))

	require.NoError(t, f.Close())
	_, err = receive(strings.NewReader(`{"transcript":"dnNtbXU="}`+"\n"), sink{progress.New(io.Discard), f})
	require.ErrorContains(t, err, "the transcript")

	_, err = createTranscript(filepath.Join(path, "no", "directory"))
	require.ErrorContains(t, err, "the transcript")
	f, err = createTranscript("")
	require.NoError(t, err)
	assert.Nil(t, f)
}

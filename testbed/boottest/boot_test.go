package boottest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu/qemutest"
	"github.com/go-vsmmu/vsmmuv3/testbed/report/reportfile"
)

func TestBootWritesTheHostsReport(t *testing.T) {
	o, out := options(t, "reports")
	r, err := Boot(context.Background(), o)
	require.NoError(t, err)
	assert.Empty(t, r.Error)
	assert.False(t, r.OK, "the host reported nothing that a check needs")
	assert.NotEmpty(t, r.Checks)
	assert.Equal(t, "tcg", r.Accel)
	assert.Contains(t, out.String(), "[host ] Booting Linux.[2J on the host", "consoles do not control the terminal")
	assert.Contains(t, out.String(), "[guest] hello from the guest")
	assert.Contains(t, out.String(), `[host ] was told "heard\n"`, "the host powers off only after its last message was read")
	assert.Contains(t, out.String(), "stage: the guest's kernel boots")
	var phases []string
	for _, p := range r.Phases {
		phases = append(phases, p.Name)
	}
	assert.Equal(t, []string{"the kernels, their modules and the initramfs are read", "the host's kernel boots", "the guest's kernel boots"}, phases)
	nothingLeft(t, o, true)
}

func TestBootThatNeverStartedHasOneCauseAndNoChecks(t *testing.T) {
	for _, tt := range []struct{ mode, want string }{
		{"panics", `the emulated host ended without a report (QEMU: exit status 0), in stage "the host's kernel boots"; last seen on console host: "Kernel panic - not syncing: no init"`},
		{"gives up", "the host gave up: no /dev/kvm"},
		{"the host's init fails", `(QEMU: exit status 0), in stage "the host's kernel boots"; last seen on console host: "init failed: no driver virtio_console"`},
		{"refuses to start", `the emulated host ended without a report (QEMU: exit status 1), in stage "the host's kernel boots"; last seen on console qemu: "qemu: unsupported machine type"`},
		{"crashes", `(QEMU: exit status 134), in stage "the host's kernel boots"; last seen on console qemu: "qemu: fatal: assertion failed"`},
		{"dies behind the guest", `(QEMU: exit status 0), in stage "the guest's kernel boots"; last seen on console host: "Kernel panic - not syncing: out of memory"`},
		{"the guest panics", `the guest did not power off, in stage "the guest's kernel boots"; last seen on console guest: "Kernel panic - not syncing: no init found"`},
		{"malformed message", "the host sent a malformed message"},
	} {
		t.Run(tt.mode, func(t *testing.T) {
			o, out := options(t, tt.mode)
			r, err := Boot(context.Background(), o)
			require.NoError(t, err)
			assert.Contains(t, r.Error, tt.want)
			assert.False(t, r.OK)
			assert.Empty(t, r.Checks, "checks that were not reached")
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

func TestBootThatTimesOutReportsHowFarItCame(t *testing.T) {
	o, _ := options(t, "hangs, but stops")
	ctx, cancel := context.WithCancelCause(context.Background())
	o.Out = qemutest.When("the guest's last line", func() { cancel(errors.New("too quiet")) })
	r, err := Boot(ctx, o)
	require.NoError(t, err)
	assert.Equal(t, `too quiet: was told to stop, in stage "the host's kernel boots"; last seen on console guest: "the guest's last line"`, r.Error)
	nothingLeft(t, o, true)
}

func TestBootEndsAtItsTimeoutHoweverShort(t *testing.T) {
	for _, timeout := range []time.Duration{time.Nanosecond, 100 * time.Millisecond} {
		o, _ := options(t, "hangs, but stops")
		o.Timeout = timeout
		r, err := Boot(context.Background(), o)
		require.NoError(t, err)
		assert.Contains(t, r.Error, "the boot did not end within "+timeout.String()+" (-timeout)")
		nothingLeft(t, o, true)
	}
}

func TestBenchWritesTheComparison(t *testing.T) {
	o, out := benchOptions(t, "measures")
	b, err := Bench(context.Background(), o)
	require.NoError(t, err)
	assert.Empty(t, b.Error)
	assert.Equal(t, "tcg", b.Accel)
	assert.Len(t, b.Phases, 2)
	assert.Contains(t, out.String(), "1.50")
	assert.NotContains(t, out.String(), "\x1b", "machines do not control the terminal")
	written, err := os.ReadFile(o.Report)
	require.NoError(t, err)
	assert.Contains(t, string(written), `"ratio": 1.5`)
	nothingLeft(t, o, true)
}

// tablesOptions returns options of a run of tables, whose guests need drivers of both transports.
func tablesOptions(t *testing.T, mode string) (Options, *bytes.Buffer) {
	t.Helper()
	o, out := options(t, mode)
	edited("Image", func(b []byte) []byte { return append(b, []byte("virtio_pci")...) })(&o)
	o.Firmware = "acpi"
	return o, out
}

func TestTablesWritesTheBoots(t *testing.T) {
	o, out := tablesOptions(t, "tabulates")
	r, err := Tables(context.Background(), o)
	require.NoError(t, err)
	assert.Empty(t, r.Error)
	assert.False(t, r.OK, "a guest hung")
	require.Len(t, r.Boots, 1)
	assert.Contains(t, out.String(), "FAILED  wired")
	assert.NotContains(t, out.String(), "\x1b", "machines do not control the terminal")
	written, err := os.ReadFile(o.Report)
	require.NoError(t, err)
	assert.Contains(t, string(written), `"name": "wired"`)
	nothingLeft(t, o, true)
}

func TestTablesThatNeverStartedHaveOneCause(t *testing.T) {
	o, _ := tablesOptions(t, "panics")
	r, err := Tables(context.Background(), o)
	require.NoError(t, err)
	assert.Contains(t, r.Error, `last seen on console host: "Kernel panic - not syncing: no init"`)
	assert.False(t, r.OK)
	nothingLeft(t, o, true)
}

func TestUnknownTableIsABadInput(t *testing.T) {
	o, _ := tablesOptions(t, "tabulates")
	o.Tables = "wired,none"
	_, err := Tables(context.Background(), o)
	var input *InputError
	require.ErrorAs(t, err, &input)
	assert.ErrorContains(t, err, "-only none: not one of [wired ")
}

func TestBenchThatFailsHasOneCause(t *testing.T) {
	o, _ := benchOptions(t, "panics")
	b, err := Bench(context.Background(), o)
	require.NoError(t, err)
	assert.Contains(t, b.Error, `last seen on console host: "Kernel panic - not syncing: no init"`)
	nothingLeft(t, o, true)
}

func TestInterruptedBootLeavesNothing(t *testing.T) {
	o, _ := options(t, "hangs")
	ctx, cancel := context.WithCancelCause(context.Background())
	o.Out = qemutest.When("Booting Linux", func() { cancel(ErrInterrupted) })
	_, err := Boot(ctx, o)
	require.ErrorIs(t, err, ErrInterrupted)
	nothingLeft(t, o, false)
}

func TestBootInterruptedBeforeItStartsLeavesNothing(t *testing.T) {
	o, _ := options(t, "hangs")
	o.Record = filepath.Join(filepath.Dir(o.Report), "t")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(ErrInterrupted)
	_, err := Boot(ctx, o)
	require.ErrorIs(t, err, ErrInterrupted)
	nothingLeft(t, o, false)
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

// The report's directory is removed during the boot.
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

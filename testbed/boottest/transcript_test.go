package boottest

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
	"github.com/go-vsmmu/vsmmuv3/testbed/host/qemu/qemutest"
)

// record runs a boot that records over an earlier transcript. It returns the contents of the file
// and of its part.
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

func TestTitleOfATranscriptNamesKernelAndModes(t *testing.T) {
	assert.Equal(t, "Image", (&Options{}).title("Image"))
	assert.Equal(t, "Image iommu.strict=0, disks on the PCI bus, by stage 2, with stalls, disks unbound and bound",
		(&Options{Cmdline: "iommu.strict=0", Transport: "pci", Stage: 2, Stalls: true, Rebind: true}).title("Image"))
}

func TestTranscriptIsWrittenPieceByPiece(t *testing.T) {
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

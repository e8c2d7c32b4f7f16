//go:build linux && (amd64 || arm64)

package vm

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/go-vsmmu/vsmmuv3/testbed/guest"
)

// fakePeer returns a job whose QEMU is a shell script, in the place of the dynamic linker.
func fakePeer(t *testing.T, script string) Job {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(root, "lib"), 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(root, "lib", "ld-linux-aarch64.so.1"), []byte("#!/bin/sh\n"+script), 0o755))
	return Job{Peer: root, Mem: 512 << 20, CPUs: 2, Rounds: 1}
}

func TestPeerRunsTheSameGuest(t *testing.T) {
	want := guest.BenchResult{IOMMU: guest.DomainStrict, Reads: []guest.BenchRead{{BlockSize: 4096, Bytes: 8192, Seconds: 0.5}}}
	job := fakePeer(t, `printf '[    1.000000] `+want.String()+`\n'; for arg; do printf '%s\n' "$arg"; done`)
	s := &keeper{}
	console := newBenchConsole(s)
	disk := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, benchPeer(t.Context(), job, []byte("image"), []byte("initrd"), disk, console))
	got, err := console.end()
	require.NoError(t, err)
	assert.Equal(t, want, got)
	for _, arg := range []string{
		filepath.Join(job.Peer, PeerProgram), "virt,iommu=smmuv3,gic-version=3", "kvm", "512M",
		benchCmdline(job), "if=none,id=disk,format=raw,file=" + disk,
		"virtio-blk-pci,drive=disk,serial=bench,iommu_platform=on,disable-legacy=on",
	} {
		assert.Contains(t, s.lines, arg)
	}
	image, err := os.ReadFile(disk + ".image")
	require.NoError(t, err)
	assert.Equal(t, "image", string(image))
}

// keeper is a Sink that keeps lines.
type keeper struct{ lines []string }

func (k *keeper) Stage(string)        {}
func (k *keeper) Line(_, text string) { k.lines = append(k.lines, text) }

func TestPeerThatFailsIsAnError(t *testing.T) {
	disk := filepath.Join(t.TempDir(), "disk")
	job := fakePeer(t, "echo no such accelerator >&2; exit 1")
	err := benchPeer(t.Context(), job, nil, nil, disk, newBenchConsole(&keeper{}))
	assert.ErrorContains(t, err, "QEMU: exit status 1: no such accelerator")
	_, err = peerVersion(t.Context(), job)
	assert.ErrorContains(t, err, "QEMU's version")

	console := newBenchConsole(&keeper{})
	require.NoError(t, benchPeer(t.Context(), fakePeer(t, "echo Kernel panic"), nil, nil, disk, console))
	_, err = console.end()
	assert.ErrorContains(t, err, "before it reported a result")

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(context.DeadlineExceeded)
	err = benchPeer(ctx, job, nil, nil, disk, newBenchConsole(&keeper{}))
	assert.ErrorIs(t, err, context.DeadlineExceeded)

	err = benchPeer(t.Context(), Job{Peer: t.TempDir()}, nil, nil, disk, newBenchConsole(&keeper{}))
	assert.ErrorContains(t, err, "starting QEMU")
}

func (k *keeper) Transcript([]byte) error { return nil }

func TestBenchWithoutKVMReportsAnError(t *testing.T) {
	if Available() == nil {
		t.Skip("this machine has KVM")
	}
	r := Run(t.Context(), fakePeer(t, "echo QEMU emulator version 7"), nil, nil, &keeper{})
	assert.NotEmpty(t, r.Error)
	assert.Nil(t, r.Bench)
}

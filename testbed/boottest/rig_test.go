package boottest

import (
	"bufio"
	"bytes"
	"fmt"
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
	case "tabulates":
		_ = s.send(message{Report: &report.Report{Tables: &report.Tables{Boots: []report.TableBoot{
			{Name: "wired", Report: &report.Report{Error: "the guest\x1b[2J hung"}},
		}}}})
		_, _ = bufio.NewReader(channel).ReadString('\n')
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
	case "malformed message":
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
		Kernel: rig.Kernel, HostKernel: rig.Kernel, Agent: rig.Agent, QEMU: rig.QEMU, Accel: "tcg", Mem: MinMem, Transport: "mmio", Firmware: "dt", PASIDBits: 6, Stage: 1,
		Report: filepath.Join(rig.Dir, "out", "report.json"), Timeout: 10 * time.Minute, Out: out,
	}, out
}

// nothingLeft asserts that no file of the runner and no part of a report is left.
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

// edited returns a function that changes a file of the rig.
func edited(name string, edit func([]byte) []byte) func(*Options) {
	return func(o *Options) {
		path := filepath.Join(filepath.Dir(o.Agent), name)
		data, _ := os.ReadFile(path)
		_ = os.WriteFile(path, edit(data), 0o700)
	}
}

// lacking returns a function that removes a string from a kernel.
func lacking(text string) func([]byte) []byte {
	return func(image []byte) []byte { return bytes.ReplaceAll(image, []byte(text), make([]byte, len(text))) }
}

// hostKernel returns a function that gives the host its own kernel, without a certain string.
func hostKernel(lacks string) func(*Options) {
	return func(o *Options) {
		data, _ := os.ReadFile(o.Kernel)
		o.HostKernel = o.Kernel + "-host"
		_ = os.WriteFile(o.HostKernel, lacking(lacks)(data), 0o600)
	}
}

// benchOptions returns options with a peer, of which Bench reads only ELF headers.
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

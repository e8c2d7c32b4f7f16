// Package qemutest lets a test program act as the emulator of its own tests.
package qemutest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// variable is the environment variable that makes the program the emulator. Its value is the mode.
const variable = "VSMMU_TEST_QEMU"

// Version is the text that the emulator prints with --version, unless act prints it.
const Version = "QEMU emulator version 10.0.2 (Debian)"

// Main is a package's TestMain. When the program runs as the emulator, Main calls act with the mode
// of the test's New and the machine's end of the channel; its standard output is the console. With
// --version there is no channel: Main prints Version, or calls act with nil in the modes of
// versions.
func Main(m *testing.M, act func(mode string, channel *os.File)) {
	mode := os.Getenv(variable)
	switch {
	case mode == "":
		os.Exit(m.Run())
	case slices.Contains(os.Args, "--version") && !slices.Contains(versions, mode):
		fmt.Println(Version)
	default:
		act(mode, os.NewFile(3, "channel"))
	}
}

// versions are the modes in which act itself prints the version.
var versions = []string{"old", "no QEMU", "no version"}

// Hang waits for longer than any test takes.
func Hang() { time.Sleep(time.Hour) }

// Rig has the files that a test passes to a runner of emulators.
type Rig struct {
	Dir    string // the test's own directory
	QEMU   string // the test program, which acts as the emulator
	Kernel string // the part of an arm64 kernel that is read before a boot
	Agent  string // the part of a build of testbed for linux/arm64 that is read before a boot
}

// New prepares a test and a TMPDIR of its own.
func New(t *testing.T, mode string) Rig {
	t.Helper()
	t.Setenv(variable, mode)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // without it each process of the race detector sleeps a second at its end
	dir := t.TempDir()
	exe, err := os.Executable()
	require.NoError(t, err)
	r := Rig{Dir: dir, QEMU: exe, Kernel: filepath.Join(dir, "Image"), Agent: filepath.Join(dir, "agent")}
	tmp := filepath.Join(dir, "tmp")
	t.Setenv("TMPDIR", tmp)
	require.NoError(t, os.Mkdir(tmp, 0o700))
	require.NoError(t, os.WriteFile(r.Kernel, Image(KernelStrings...), 0o600))
	require.NoError(t, os.WriteFile(r.Agent, Agent(AgentPackage), 0o700))
	return r
}

// KernelStrings are strings of a kernel image that show its built-in drivers.
var KernelStrings = []string{
	"Linux version 6.1.0 (test)",
	"virtio_blk",
	"virtio_console",
	"virtio-mmio",
	"virtio-pci",
	"arm-smmu-v3",
	"kvm-arm.mode",
}

// Image returns a kernel image of 4 KiB with these strings.
func Image(strings ...string) []byte {
	const size = 4096
	image := make([]byte, size)
	// The header (booting.rst, section 4): the image's size, and its magic.
	binary.LittleEndian.PutUint64(image[16:], size)
	copy(image[56:], "ARM\x64")
	at := 64
	for _, s := range strings {
		at += copy(image[at:], s+"\x00")
	}
	return image
}

// AgentPackage is the main package of the agent.
const AgentPackage = "github.com/go-vsmmu/vsmmuv3/testbed/cmd/testbed"

// Agent returns a statically linked arm64 ELF executable, built by Go from this main package.
func Agent(path string) []byte {
	const header, programHeader, data, address = 64, 56, 128, 0x10000
	le := binary.LittleEndian
	b := make([]byte, data)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 2)   // ET_EXEC
	le.PutUint16(b[18:], 183) // EM_AARCH64
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], header) // e_phoff
	le.PutUint16(b[52:], header)
	le.PutUint16(b[54:], programHeader)
	le.PutUint16(b[56:], 1)  // e_phnum
	le.PutUint16(b[58:], 64) // e_shentsize

	// The build information, as debug/buildinfo reads it: a header of 32 bytes, then two strings
	// with their lengths.
	b = append(b, "\xff Go buildinf:\x08\x02"...)
	b = append(b, make([]byte, data+32-len(b))...)
	const mark = "0123456789abcdef"
	info := mark + "path\t" + path + "\nbuild\tGOARCH=arm64\nbuild\tGOOS=linux\n" + mark
	for _, s := range []string{"go1.25.0", info} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}

	segment := b[header:]
	le.PutUint32(segment, 1)     // PT_LOAD
	le.PutUint32(segment[4:], 6) // readable, writable
	le.PutUint64(segment[8:], data)
	le.PutUint64(segment[16:], address)
	le.PutUint64(segment[32:], uint64(len(b)-data))
	le.PutUint64(segment[40:], uint64(len(b)-data))
	return b
}

// When returns a writer that calls do whenever word is written to it.
func When(word string, do func()) io.Writer { return when{word, do} }

type when struct {
	word string
	do   func()
}

func (w when) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.word)) {
		w.do()
	}
	return len(p), nil
}

// NothingLeft asserts that TMPDIR is empty.
func NothingLeft(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	require.NoError(t, err)
	assert.Empty(t, left)
}

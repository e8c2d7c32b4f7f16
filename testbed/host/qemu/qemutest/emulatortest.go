// Package emulatortest has a test program be the emulator of its own tests.
package qemutest

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// variable of the environment that tells the program to be the emulator, and what a test wants of it.
const variable = "VSMMU_TEST_QEMU"

// Main is a package's TestMain. Where the program was started as the emulator it does as act, with the mode of the test's New and
// the machine's end of the channel; its standard output is the console.
func Main(m *testing.M, act func(mode string, channel *os.File)) {
	mode := os.Getenv(variable)
	if mode == "" {
		os.Exit(m.Run())
	}
	act(mode, os.NewFile(3, "channel"))
}

// Hang is longer than any test takes: the end comes from outside.
func Hang() { time.Sleep(time.Hour) }

// Rig is what a test gives to a runner of emulators.
type Rig struct {
	Dir    string // the test's own
	QEMU   string // the test program, which is the emulator from now on
	Kernel string // a file with as much of an arm64 kernel as is looked at before a boot
}

// New prepares a test. TMPDIR is its own, too.
func New(t *testing.T, mode string) Rig {
	t.Helper()
	t.Setenv(variable, mode)
	t.Setenv("GORACE", "atexit_sleep_ms=0") // the race detector has every process rest a second at its end
	dir := t.TempDir()
	exe, err := os.Executable()
	require.NoError(t, err)
	r := Rig{Dir: dir, QEMU: exe, Kernel: filepath.Join(dir, "Image")}
	tmp := filepath.Join(dir, "tmp")
	t.Setenv("TMPDIR", tmp)
	require.NoError(t, os.Mkdir(tmp, 0o700))
	// The header (booting.rst, section 4): the image's size, and its magic.
	image := make([]byte, 4096)
	binary.LittleEndian.PutUint64(image[16:], 4096)
	copy(image[56:], "ARM\x64")
	require.NoError(t, os.WriteFile(r.Kernel, image, 0o600))
	return r
}

// When does something whenever a word is written to it.
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

package iommulab

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestFollow(t *testing.T) {
	console := strings.Join([]string{
		"[    0.000000] Booting Linux\r",
		"IOMMULAB-IORT SU9S\r", "IOMMULAB-IORT VA==\r",
		"--- PASS: TestKernel", "", "IOMMULAB-EXIT 3\r", "reboot: Power down",
	}, "\n")
	var shown bytes.Buffer
	out := follow(strings.NewReader(console), &shown)
	assert.Equal(t, outcome{ended: true, status: 3, iort: "SU9SVA=="}, out)
	assert.NotContains(t, shown.String(), "IORT")
	assert.Contains(t, shown.String(), "--- PASS: TestKernel\n")

	assert.Equal(t, outcome{}, follow(strings.NewReader("Kernel panic\n"), &shown), "the program did not end")
	assert.Equal(t, outcome{}, follow(strings.NewReader("IOMMULAB-EXIT x\n"), &shown))
}

func TestOverrideStandsBeforeAnotherArchive(t *testing.T) {
	table, err := os.ReadFile("testdata/iort-qemu-10.0.bin")
	require.NoError(t, err)
	archive, err := acpiOverride(table)
	require.NoError(t, err)
	assert.Equal(t, "070701", string(archive[:6]), "newc, not compressed")
	assert.Contains(t, string(archive), "kernel/firmware/acpi/iort.aml\x00")
	assert.Zero(t, len(archive)%4)
}

// script is a QEMU that is none.
func script(t *testing.T, lines ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "qemu")
	text := "#!/bin/sh\nif [ \"$1\" = --version ]; then " + lines[0] + "; exit; fi\n" + strings.Join(lines[1:], "\n") + "\n"
	require.NoError(t, os.WriteFile(path, []byte(text), 0o755))
	return path
}

func TestRunRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("anything"), 0o600))
	const recent = "echo QEMU emulator version 10.0.2"
	for _, tt := range []struct {
		name string
		o    Options
		says string
	}{
		{"no QEMU", Options{QEMU: "/nowhere"}, "/nowhere"},
		{"not QEMU", Options{QEMU: script(t, "echo hello")}, "not QEMU"},
		{"old QEMU", Options{QEMU: script(t, "echo QEMU emulator version 9.0.4")}, "9.1 or later"},
		{"no kernel", Options{QEMU: script(t, recent), Kernel: "/nowhere"}, "/nowhere"},
		{"no program", Options{QEMU: script(t, recent), Kernel: file, Program: "/nowhere"}, "/nowhere"},
		{"QEMU fails", Options{QEMU: script(t, recent, "exit 1"), Kernel: file, Program: file}, "exit status 1"},
		{"no end", Options{QEMU: script(t, recent, "echo panic"), Kernel: file, Program: file}, "before the program ended"},
		{"no IORT", Options{QEMU: script(t, recent, "echo IOMMULAB-EXIT 0"), Kernel: file, Program: file}, "not an IORT"},
		{"too slow", Options{QEMU: script(t, recent, "exec sleep 60"), Kernel: file, Program: file, Timeout: 200 * time.Millisecond}, "did not come to its end"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.o.Timeout == 0 {
				tt.o.Timeout = time.Minute
			}
			tt.o.Console = io.Discard
			assert.ErrorContains(t, Run(context.Background(), tt.o), tt.says)
		})
	}
}

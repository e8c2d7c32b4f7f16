package qemu

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// versionTimeout is the time in which any QEMU prints its version.
const versionTimeout = 30 * time.Second

// Version runs an emulator with --version and returns the version that it prints. It returns an
// error if the program does not run or is not QEMU.
func Version(ctx context.Context, path string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "--version")
	cmd.WaitDelay = time.Second // a child of a script may keep the pipe open
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		said, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		if said != "" {
			said = ": " + said
		}
		return "", fmt.Errorf("%s --version: %w%s", path, err, said)
	case err != nil:
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	line, _, _ := strings.Cut(string(out), "\n")
	version, ok := strings.CutPrefix(line, "QEMU emulator version ")
	if !ok {
		return "", fmt.Errorf("%s is not QEMU: its --version prints %.80q", path, line)
	}
	return strings.TrimSpace(version), nil
}

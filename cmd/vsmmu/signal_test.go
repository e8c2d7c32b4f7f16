package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// TestRemoveOnSignalProcess is the process that the test below interrupts.
func TestRemoveOnSignalProcess(t *testing.T) {
	path := os.Getenv("VSMMU_TEST_TEMPORARY")
	if path == "" {
		t.Skip("run by TestInterruptLeavesNoTemporaryFile")
	}
	keep := removeOnSignal(path)
	fmt.Println("ready")
	time.Sleep(time.Hour)
	keep()
}

func TestInterruptLeavesNoTemporaryFile(t *testing.T) {
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGTERM, unix.SIGHUP} {
		path := filepath.Join(t.TempDir(), ".vsmmu-trace-x")
		require.NoError(t, os.WriteFile(path, []byte("half a trace"), 0o600))
		cmd := exec.Command(os.Args[0], "-test.run=^TestRemoveOnSignalProcess$", "-test.v")
		cmd.Env = append(os.Environ(), "VSMMU_TEST_TEMPORARY="+path)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "ready"; {
		}
		require.NoError(t, cmd.Process.Signal(s))
		var exit *exec.ExitError
		require.ErrorAs(t, cmd.Wait(), &exit)
		assert.Equal(t, s, exit.Sys().(interface{ Signal() unix.Signal }).Signal())
		_, err = os.Stat(path)
		assert.True(t, errors.Is(err, os.ErrNotExist), "%v", err)
	}
}

func TestTemporaryFileThatIsKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	removeOnSignal(path)()
	assert.FileExists(t, path)
}

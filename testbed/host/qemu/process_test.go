package qemu

import (
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestKillWaitsForTheProcess(t *testing.T) {
	p, err := startProcess(exec.Command("sleep", "3600"))
	require.NoError(t, err)
	p.kill()
	assert.Error(t, p.cmd.Process.Signal(os.Interrupt), "no such process")
}

package main

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// limited names an environment variable that makes the test program run as vsmmu. Its value has the
// arguments. The program can write at most 4 KiB to a file, as on a disk that fills up.
const limited = "VSMMU_TEST_LIMITED"

func TestMain(m *testing.M) {
	if args, ok := os.LookupEnv(limited); ok {
		signal.Ignore(unix.SIGXFSZ)
		if err := unix.Setrlimit(unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: 4096, Max: 4096}); err != nil {
			panic(err)
		}
		os.Exit(run(strings.Split(args, "\n"), os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestTraceThatCannotBeWritten(t *testing.T) {
	path := traceDir(t)
	before := tree(t, path(""))
	for _, name := range []string{"trace.json", "new.json"} {
		for _, flags := range []string{"", "-json\n"} {
			var out, errs bytes.Buffer
			c := exec.Command(os.Args[0])
			c.Env = append(os.Environ(), limited+"=replay\n"+flags+"-trace\n"+path(name)+"\n"+path("boot.vsmmu"))
			c.Stdout, c.Stderr = &out, &errs
			require.Error(t, c.Run())
			assert.Equal(t, 2, c.ProcessState.ExitCode())
			assert.NotEmpty(t, out.String(), "the summary is printed")
			assert.Equal(t, "vsmmu: write the trace: "+path(name)+": file too large\n", errs.String())
		}
	}
	assert.Equal(t, before, tree(t, path("")), "no file is changed, and no temporary file is left")
}

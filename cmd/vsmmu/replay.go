package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/go-vsmmu/vsmmuv3/cmd/vsmmu/internal/replay"
	"github.com/go-vsmmu/vsmmuv3/internal/cli"
	"github.com/go-vsmmu/vsmmuv3/transcript"
)

const replayUsage = `Usage: vsmmu replay [flags] [FILE]

Replays a recorded guest against a new device, checks that the device behaves the same, and shows what the guest did.
Package transcript and make boot BOOT_FLAGS='-record FILE' write such a FILE. Without FILE, replay uses a transcript
that the program contains: a boot of Debian's kernel with DMA by two disks.

With -trace, replay writes a trace after its output. The complete trace replaces an earlier trace. Replay never
replaces another file, such as a transcript or its own input. A pipe or a device such as /dev/stdout is allowed.

Exit status:
  0  the device behaved the same
  1  the device behaved differently
  2  FILE cannot be read or is not a valid transcript, a flag is invalid, or the output or the trace cannot be written

Flags:
`

func replayCommand(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("replay", flag.ContinueOnError)
	asJSON := f.Bool("json", false, "print JSON, for programs")
	trace := f.String("trace", "", "write a trace for ui.perfetto.dev or chrome://tracing to `FILE`")
	restored := f.Bool("restored", false, "save the device at every step and restore it into a new one")
	if code, done := program.Parsed(cli.Parse(f, args, replayUsage, stdout), "replay", stderr); done {
		return code
	}
	if f.NArg() > 1 {
		return complain(stderr, fmt.Errorf("unexpected argument %q after FILE: see vsmmu replay -h", f.Arg(1)))
	}
	t, input, err := readTranscript(f.Args())
	if err != nil {
		return complain(stderr, err)
	}
	defer input.Close() // a nil file is allowed
	var out *traceFile
	if set(f, "trace") {
		if out, err = openTrace(*trace, input, stdout, stderr); err != nil {
			return complain(stderr, fmt.Errorf("write the trace: %w", err))
		}
	}
	s, err := replay.Run(context.Background(), t, *restored)
	if err != nil {
		return complain(stderr, err)
	}
	if *asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetEscapeHTML(false)
		encoder.SetIndent("", "  ")
		err = encoder.Encode(s)
	} else {
		err = s.Text(stdout, cli.Columns(stdout), cli.Coloured(stdout))
	}
	code := cli.OK
	if !s.OK {
		code = cli.Failed
	}
	// The summary is already printed: an error of the trace does not affect it.
	if err != nil {
		code = cmp.Or(code, complain(stderr, err))
	}
	if out != nil {
		if err := out.write(t); err != nil {
			code = cmp.Or(code, complain(stderr, fmt.Errorf("write the trace: %s: %w", *trace, err)))
		}
	}
	return code
}

// set reports whether a flag was given.
func set(f *flag.FlagSet, name string) (ok bool) {
	f.Visit(func(f *flag.Flag) { ok = ok || f.Name == name })
	return ok
}

// readTranscript reads the transcript that files names, or the transcript in the program. It also
// returns the open file, so that openTrace can refuse to replace the input.
func readTranscript(files []string) (*transcript.Transcript, *os.File, error) {
	if len(files) == 0 {
		t, err := transcript.Read(bytes.NewReader(replay.Debian))
		return t, nil, err
	}
	if files[0] == "" {
		return nil, nil, errors.New("empty file name")
	}
	file, err := os.Open(files[0])
	if err != nil {
		return nil, nil, err
	}
	t, err := transcript.Read(file)
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("%s: %w", files[0], err), file.Close())
	}
	return t, file, nil
}

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"

	"github.com/go-vsmmu/vsmmuv3/internal/replay"
	"github.com/go-vsmmu/vsmmuv3/transcript"
)

const replayUsage = `Usage: vsmmu replay [flags] [FILE]

Does to a virtual SMMUv3 again what the guest in a transcript did to one, checks that it does the same, and shows what
that was. Without a FILE it is a stock Debian kernel that brings the SMMU up and drives its disks. The testbed's boot
-record FILE makes transcripts.

Flags:
`

func replayCommand(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("replay", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	asJSON := f.Bool("json", false, "print JSON, for programs")
	trace := f.String("trace", "", "where a trace for ui.perfetto.dev or chrome://tracing goes, `FILE`")
	restored := f.Bool("restored", false, "save the device at every step, throw it away, and go on with one that it is restored into")
	switch err := f.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, replayUsage)
		f.SetOutput(stdout)
		f.PrintDefaults()
		return cli.OK
	case err != nil:
		return complain(stderr, fmt.Errorf("%w: see vsmmu replay -h", err))
	case f.NArg() > 1:
		return complain(stderr, fmt.Errorf("unexpected argument %q after FILE: see vsmmu replay -h", f.Arg(1)))
	}
	t, err := readTranscript(f.Arg(0))
	if err != nil {
		return complain(stderr, err)
	}
	if *trace != "" {
		if err := writeTrace(*trace, t); err != nil {
			return complain(stderr, err)
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
	switch {
	case err != nil:
		return complain(stderr, err)
	case !s.OK:
		return cli.Failed
	}
	return cli.OK
}

// readTranscript reads a file, or without a name the transcript that comes with the program.
func readTranscript(name string) (*transcript.Transcript, error) {
	if name == "" {
		return transcript.Read(bytes.NewReader(replay.Debian))
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	t, err := transcript.Read(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return t, nil
}

func writeTrace(name string, t *transcript.Transcript) error {
	var b bytes.Buffer
	err := replay.Chrome(&b, t)
	if err == nil {
		err = os.WriteFile(name, b.Bytes(), 0o644)
	}
	if err != nil {
		return fmt.Errorf("the trace: %w", err)
	}
	return nil
}

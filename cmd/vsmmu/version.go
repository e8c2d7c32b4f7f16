package main

import (
	"flag"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
	"github.com/go-vsmmu/vsmmuv3/transcript"
)

const versionUsage = `Usage: vsmmu version

Prints the version of the module, the revision that it was built from, the version of the transcript format that it
reads, and the version of Go.
`

func versionCommand(args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("version", flag.ContinueOnError)
	if code, done := program.Parsed(cli.Parse(f, args, versionUsage, stdout), "version", stderr); done {
		return code
	}
	if f.NArg() > 0 {
		return complain(stderr, fmt.Errorf("unexpected argument %q: see vsmmu version -h", f.Arg(0)))
	}
	info, _ := debug.ReadBuildInfo()
	if _, err := io.WriteString(stdout, versionText(info)); err != nil {
		return complain(stderr, err)
	}
	return cli.OK
}

// versionText describes a build. info is nil for a program that was built without module support.
func versionText(info *debug.BuildInfo) string {
	module, revision, modified := "unknown", "unknown", ""
	if info != nil {
		if module = info.Main.Path; info.Main.Version != "" {
			module += " " + info.Main.Version
		}
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				modified = " (modified)"
			}
		}
	}
	return fmt.Sprintf("module      %s\nrevision    %s%s\ntranscript  version %d\ngo          %s %s/%s\n",
		module, revision, modified, transcript.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

package boottest

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// checkOutputs returns an error if an output file is also an input file, or if both outputs are the
// same file.
func (o *Options) checkOutputs() error {
	for _, out := range []struct{ flag, path string }{{"-report", o.Report}, {"-record", o.Record}} {
		if out.path == "" {
			continue
		}
		for _, in := range []struct{ flag, path string }{
			{"-kernel", o.Kernel}, {"-modules", o.Modules},
			{"-host-kernel", o.HostKernel}, {"-host-modules", o.HostModules},
			{"-agent", o.Agent}, {"-qemu", o.QEMU}, {"-peer", o.Peer},
		} {
			if in.path != "" && (sameFile(out.path, in.path) || overwritesPart(out.path, in.path)) {
				return fmt.Errorf(
					"%s %s would overwrite the input of %s (give another path)",
					out.flag,
					out.path,
					in.flag,
				)
			}
		}
	}
	if o.Record != "" && sameFile(o.Report, o.Record) {
		return fmt.Errorf("-report and -record are the same file, %s (give another path)", o.Record)
	}
	if startsWith(o.Report, transcriptMagic) {
		return fmt.Errorf("-report %s would overwrite a transcript (give another path)", o.Report)
	}
	return nil
}

// sameFile reports whether two paths lead to one file, or would once it exists.
func sameFile(a, b string) bool {
	x, errA := os.Stat(a)
	y, errB := os.Stat(b)
	if errA == nil && errB == nil {
		return os.SameFile(x, y)
	}
	return errA != nil && errB != nil && resolve(a) == resolve(b)
}

// resolve returns the absolute path with the symbolic links of its existing directories resolved.
func resolve(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		return path
	}
	dir, name := filepath.Split(path)
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	return filepath.Join(dir, name)
}

// overwritesPart reports whether out is a file below the directory in, other than an earlier
// output.
func overwritesPart(out, in string) bool {
	rel, err := filepath.Rel(resolve(filepath.Join(in, "x")), resolve(out))
	if err != nil || !strings.HasPrefix(rel, "../") || strings.HasPrefix(rel, "../../") {
		return false
	}
	info, err := os.Stat(out)
	return err == nil && info.Mode().IsRegular() && info.Size() > 0 &&
		!startsWith(out, "{") && !startsWith(out, transcriptMagic)
}

func startsWith(path, text string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, len(text))
	_, err = io.ReadFull(f, head)
	return err == nil && bytes.Equal(head, []byte(text))
}

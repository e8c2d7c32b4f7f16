package boottest

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/progress"
)

// sink prints the progress, and writes the transcript.
type sink struct {
	*progress.Progress
	transcript *transcript // nil for none
}

// Transcript writes a piece of the transcript.
func (s sink) Transcript(p []byte) error { return s.transcript.write(p) }

// title returns the transcript's title, which names the kernel and the modes.
func (o *Options) title(kernel string) string {
	title := strings.TrimSpace(kernel + " " + o.Cmdline)
	if o.pci() {
		title += ", disks on the PCI bus"
	}
	if o.Stage == 2 {
		title += ", by stage 2"
	}
	if o.Stalls {
		title += ", with stalls"
	}
	if o.Rebind {
		title += ", disks unbound and bound"
	}
	return title
}

const (
	// transcriptMagic starts every transcript.
	transcriptMagic = "vsmmu-tr"
	// partSuffix names a transcript that is not complete.
	partSuffix = ".part"
	// transcriptSpace is an upper bound of the size of a boot's transcript.
	transcriptSpace = 4 << 20
)

// transcript is the file that a boot is recorded to. It has the suffix .part until the boot has
// reached its end, so that a boot that fails leaves an earlier transcript whole. The methods of a
// nil transcript do nothing.
type transcript struct {
	path string
	file *os.File
}

// createTranscript creates the file, before anything is booted. It returns nil for an empty path,
// and an error if the path has a file that is not a transcript.
func createTranscript(path string) (*transcript, error) {
	if path == "" {
		return nil, nil
	}
	for _, name := range []string{path, path + partSuffix} {
		switch info, err := os.Lstat(name); {
		case err != nil:
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("the transcript: %s is not a regular file "+
				"(give another path with -record FILE)", name)
		case info.Size() > 0 && !startsWith(name, transcriptMagic):
			return nil, fmt.Errorf(
				"the transcript: %s exists and is not a transcript (give another path with -record FILE)",
				name,
			)
		}
	}
	f, err := os.Create(path + partSuffix)
	if err != nil {
		return nil, fmt.Errorf("the transcript: %w", err)
	}
	t := &transcript{path, f}
	if err := cli.CheckSpace(filepath.Dir(path), transcriptSpace); err != nil {
		return nil, errors.Join(
			fmt.Errorf("the transcript: %w (give another path with -record FILE)", err),
			t.discard(),
		)
	}
	return t, nil
}

func (t *transcript) write(p []byte) error {
	if t == nil {
		return nil
	}
	if _, err := t.file.Write(p); err != nil {
		return fmt.Errorf("the transcript: %w", err)
	}
	return nil
}

// discard removes the file.
func (t *transcript) discard() error {
	if t == nil {
		return nil
	}
	_ = t.file.Close()
	return os.Remove(t.file.Name())
}

// keep closes the file, gives it its name if the boot has reached its end, and prints where it is.
func (t *transcript) keep(complete bool, out io.Writer) error {
	if t == nil {
		return nil
	}
	part := t.file.Name()
	if err := errors.Join(t.file.Sync(), t.file.Close()); err != nil {
		return fmt.Errorf("the transcript %s: %w", part, err)
	}
	if !complete {
		_, err := fmt.Fprintf(out, "transcript: %s (cut off: the boot did not reach its end)\n", part)
		return err
	}
	where := t.path
	if _, err := os.Lstat(t.path); err == nil {
		where += " (replaces an earlier transcript)"
	}
	if err := os.Rename(part, t.path); err != nil {
		return fmt.Errorf("the transcript %s: %w", part, err)
	}
	_, err := fmt.Fprintln(out, "transcript:", where)
	return err
}

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/go-vsmmu/vsmmuv3/cmd/vsmmu/internal/replay"
	"github.com/go-vsmmu/vsmmuv3/transcript"
)

// traceFile is the destination of a trace. write replaces a file as a whole when the new trace is
// complete. It writes directly to a device, a pipe or the standard output.
type traceFile struct {
	name  string    // as the user gave it
	path  string    // of the file to replace, without symbolic links; empty if out is set
	out   io.Writer // the destination if it is not a file
	input *os.File  // nil for the transcript in the program
}

// openTrace checks the name of a trace before the replay. It refuses a file that must not be
// replaced: the input, another transcript, or any file that is not a trace of this program.
func openTrace(name string, input *os.File, stdout, stderr io.Writer) (*traceFile, error) {
	t := &traceFile{name: name, input: input}
	switch clean := filepath.Clean(name); {
	case name == "":
		return nil, errors.New("empty file name")
	case slices.Contains([]string{"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}, clean):
		t.out = stdout
		return t, nil
	case slices.Contains([]string{"/dev/stderr", "/dev/fd/2", "/proc/self/fd/2"}, clean):
		t.out = stderr
		return t, nil
	}
	if is, err := os.Stat(name); err == nil && !is.Mode().IsRegular() && !is.IsDir() {
		t.path = name // a device or a pipe: links to them in /dev/fd lead to no file name
		return t, nil
	}
	path, err := target(name)
	if err != nil {
		return nil, err
	}
	t.path = path
	if err := t.check(); err != nil {
		return nil, err
	}
	if dir, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil, err
	} else if !dir.IsDir() {
		return nil, fmt.Errorf("%s is not a directory", filepath.Dir(path))
	}
	return t, nil
}

// target follows the symbolic links of a name and returns the name of the file. The file need not
// exist.
func target(name string) (string, error) {
	for range 40 {
		link, err := os.Readlink(name)
		if err != nil {
			return name, nil // not a link, or no file
		}
		if !filepath.IsAbs(link) {
			// Join would remove a ".." after another link.
			link = filepath.Dir(name) + string(filepath.Separator) + link
		}
		name = link
	}
	return "", fmt.Errorf("%s: too many symbolic links", name)
}

// check returns an error if the file must not be replaced.
func (t *traceFile) check() error {
	is, err := os.Stat(t.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case is.IsDir():
		return fmt.Errorf("%s is a directory", t.name)
	case !is.Mode().IsRegular():
		return nil
	}
	if t.input != nil {
		in, err := t.input.Stat()
		if err != nil {
			return err
		}
		if os.SameFile(is, in) {
			return fmt.Errorf("%s is the transcript to replay (choose another file)", t.name)
		}
	}
	if out, err := os.Stdout.Stat(); err == nil && os.SameFile(is, out) {
		return fmt.Errorf("%s is the standard output (to write the trace there use /dev/stdout)", t.name)
	}
	file, err := os.Open(t.path)
	if err != nil {
		return err // a file that cannot be read cannot be checked
	}
	defer file.Close()
	head := make([]byte, 64)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return err
	}
	head = head[:n]
	switch {
	case n == 0, replay.IsChrome(head):
		return nil
	case transcript.IsTranscript(head):
		return fmt.Errorf("%s is a transcript (choose another file)", t.name)
	}
	return fmt.Errorf("%s exists and is not a trace (remove it, or choose another file)", t.name)
}

// write writes the trace of a transcript. An earlier file keeps its content until the trace is
// complete.
func (t *traceFile) write(tr *transcript.Transcript) error {
	if t.out != nil {
		return replay.Chrome(t.out, tr)
	}
	// The file may have changed during the replay.
	if err := t.check(); err != nil {
		return err
	}
	perm := fs.FileMode(0o666)
	is, err := os.Stat(t.path)
	if err == nil && !is.Mode().IsRegular() {
		return t.writeDevice(tr)
	}
	old := err == nil
	temp := filepath.Join(filepath.Dir(t.path), ".vsmmu-trace-"+rand.Text())
	defer removeOnSignal(temp)()
	file, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return withoutPath(err)
	}
	err = replay.Chrome(file, tr)
	if err == nil && old {
		err = file.Chmod(is.Mode().Perm())
	}
	if err == nil {
		err = file.Sync() // some file systems report a full disk only here
	}
	err = errors.Join(err, file.Close())
	if err == nil {
		err = os.Rename(temp, t.path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return withoutPath(err)
	}
	return nil
}

func (t *traceFile) writeDevice(tr *transcript.Transcript) error {
	file, err := os.OpenFile(t.path, os.O_WRONLY, 0)
	if err != nil {
		return withoutPath(err)
	}
	err = replay.Chrome(file, tr)
	return withoutPath(errors.Join(err, file.Close()))
}

// withoutPath returns the cause of an error of package os, without the name of a temporary file.
func withoutPath(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}

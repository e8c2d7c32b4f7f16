// Package reportfile writes a report file completely or not at all.
package reportfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
)

// ErrWrite means that a report cannot be written. Every error of this package matches it.
var ErrWrite = errors.New("cannot write the report")

// space is an upper bound of the size of a report.
const space = 1 << 20

// Prepare returns an error if no report can be written to path. Call it before a run, whose result
// would otherwise be lost. It makes the directories of path. An earlier report stays until Write
// replaces it.
func Prepare(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("%w: %s is not a regular file (give another path with -report FILE)", ErrWrite, path)
	}
	if err := cli.CheckSpace(filepath.Dir(path), space); err != nil {
		return fmt.Errorf("%w: %w (give another path with -report FILE)", ErrWrite, err)
	}
	probe, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	_, err = probe.WriteString("{}\n")
	if err := errors.Join(err, probe.Close(), os.Remove(probe.Name())); err != nil {
		return fmt.Errorf("%w: %w", ErrWrite, err)
	}
	return nil
}

// Write writes a report as indented JSON. It replaces an earlier report only when the new report is
// on the disk. An error says whether path still holds an earlier report.
func Write(path string, report any) error {
	err := write(path, report)
	if err == nil {
		return nil
	}
	if _, there := os.Lstat(path); there == nil {
		return fmt.Errorf("%w: %w (%s holds the report of an earlier run)", ErrWrite, err, path)
	}
	return fmt.Errorf("%w: %w", ErrWrite, err)
}

func write(path string, report any) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(tmp)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = errors.Join(encoder.Encode(report), tmp.Chmod(0o644), tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

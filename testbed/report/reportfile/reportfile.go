// Package reportfile leaves reports of what was tried and measured: complete or not at all.
package reportfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Prepare finds out, before anything is done that would be lost, whether a report can be written, and removes the one of
// the run before, so that a run which leaves none is not taken for it.
func Prepare(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("the report: %s is no regular file: give another path with -report FILE", path)
	}
	if err := Write(path, nil); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	return nil
}

// Write leaves a report as indented JSON.
func Write(path string, report any) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".report-*")
	if err != nil {
		return fmt.Errorf("the report: %w", err)
	}
	encoder := json.NewEncoder(tmp)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	err = errors.Join(encoder.Encode(report), tmp.Chmod(0o644), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		os.Remove(tmp.Name())
		return fmt.Errorf("the report: %w", err)
	}
	return nil
}

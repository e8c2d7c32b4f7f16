// Package bundle runs a program from a directory with the unpacked packages of an arm64
// distribution. It collects the files that the program needs there: itself, its dynamic linker and
// its shared libraries.
package bundle

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-vsmmu/vsmmuv3/testbed/host/kernel"
)

// linker is the dynamic linker of arm64 Linux programs with the GNU C library.
const linker = "ld-linux-aarch64.so.1"

// Directories of the linker and the libraries, from the root.
var (
	linkerDirs  = []string{"lib", "usr/lib"}
	libraryDirs = []string{
		"lib/aarch64-linux-gnu", "usr/lib/aarch64-linux-gnu", // Debian
		"lib64", "usr/lib64", "usr/lib",
	}
)

// Command returns the command line that runs a program, whose path is from the root.
func Command(root, program string) []string {
	at := filepath.Join(root, linkerDirs[0], linker)
	if _, err := os.Stat(at); err != nil {
		at = filepath.Join(root, linkerDirs[1], linker)
	}
	var search []string
	for _, dir := range libraryDirs {
		search = append(search, filepath.Join(root, dir))
	}
	return []string{at, "--library-path", strings.Join(search, ":"), filepath.Join(root, program)}
}

// Gather returns the files that Command needs. Their names are paths from the root.
func Gather(root, program string) ([]kernel.File, error) {
	tree, err := os.OpenRoot(root) // links out of it fail
	if err != nil {
		return nil, err
	}
	defer tree.Close()
	var files []kernel.File
	add := func(name string) (needs []string, err error) {
		data, err := fs.ReadFile(tree.FS(), name)
		if err != nil {
			return nil, err
		}
		files = append(files, kernel.File{Name: name, Mode: 0o755, Data: data})
		return imports(name, data)
	}
	needed, err := add(program)
	if err != nil {
		return nil, err
	}
	done := map[string]bool{}
	for needed = append(needed, linker); len(needed) > 0; needed = needed[1:] {
		name, dirs := needed[0], libraryDirs
		if name == linker {
			dirs = linkerDirs
		}
		if done[name] {
			continue
		}
		done[name] = true
		at, ok := find(tree.FS(), dirs, name)
		if !ok {
			return nil, fmt.Errorf("%s has no library %s", root, name)
		}
		more, err := add(at)
		if err != nil {
			return nil, err
		}
		needed = append(needed, more...)
	}
	return files, nil
}

func find(tree fs.FS, dirs []string, name string) (at string, ok bool) {
	for _, dir := range dirs {
		at := dir + "/" + name
		if _, err := fs.Stat(tree, at); err == nil {
			return at, true
		}
	}
	return "", false
}

// imports returns the names of the libraries that a program or library needs.
func imports(name string, data []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if file.Machine != elf.EM_AARCH64 {
		return nil, fmt.Errorf("%s is for %s, not for arm64", name, file.Machine)
	}
	needs, err := file.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return needs, nil
}

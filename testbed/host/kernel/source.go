// Package kernel takes an arm64 kernel image, and the modules that go with it, from where distributions put them:
// a plain file, a directory, or a Debian package.
package kernel

import (
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// maxFile bounds what is taken into memory of any one file, whatever the file or its compression claims.
const maxFile = 512 << 20

// errNext is what a visitor returns to be spared the rest of a package, which may be hundreds of megabytes.
var errNext = errors.New("on to the next package")

// visitor is called for every regular file of a source. The reader is good until it returns.
type visitor func(name string, r io.Reader) error

// walk visits the files of path: of the directory and the Debian packages in it, or of the Debian package.
func walk(path string, visit visitor) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return walkDeb(path, visit)
	}
	// What leads to a directory is as good as the directory, and WalkDir does not follow it.
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	return filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.Type().IsRegular():
			// A symbolic link names a file that is visited itself, or one outside (Debian's build and source links).
			return nil
		case isDeb(file):
			return walkDeb(file, visit)
		}
		// Opened only when read: a modules directory holds thousands of files, of which a handful count.
		f := &lazyFile{path: file}
		defer f.close()
		if err := visit(file, f); !errors.Is(err, errNext) {
			return err
		}
		return nil
	})
}

func isDeb(path string) bool { return strings.HasSuffix(path, ".deb") }

// lazyFile is a file that is opened by its first Read.
type lazyFile struct {
	path string
	file *os.File
}

func (l *lazyFile) Read(p []byte) (int, error) {
	if l.file == nil {
		f, err := os.Open(l.path)
		if err != nil {
			return 0, err
		}
		l.file = f
	}
	return l.file.Read(p)
}

func (l *lazyFile) close() {
	if l.file != nil {
		l.file.Close()
	}
}

// decompressors by the suffix that names them, in Debian packages and in modules directories alike.
var decompressors = map[string]func(io.Reader) (io.Reader, error){
	".gz": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	".xz": func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) },
	".zst": func(r io.Reader) (io.Reader, error) {
		// One goroutine, so that a reader given up half-way leaves none behind.
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFile))
	},
}

// decompress returns the name without the suffix of a known compression, and a reader of the plain content.
func decompress(name string, r io.Reader) (string, io.Reader, error) {
	suffix := filepath.Ext(name)
	open, ok := decompressors[suffix]
	if !ok {
		return name, r, nil
	}
	plain, err := open(r)
	if err != nil {
		return "", nil, fmt.Errorf("%s: %w", name, err)
	}
	return strings.TrimSuffix(name, suffix), plain, nil
}

// readAll takes in a whole file, but never more than maxFile.
func readAll(name string, r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than %d MiB", name, maxFile>>20)
	}
	return data, nil
}

// Package kernel reads arm64 kernel images and their modules from where distributions put them: a
// plain file, a directory, or a Debian package. It checks that a kernel has the drivers of a
// machine, and writes initramfs.
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

// maxFile bounds the memory for one file, for any size in the file's header.
const maxFile = 512 << 20

// errNext is a visitor's error that skips the rest of a package, which may be hundreds of
// megabytes.
var errNext = errors.New("on to the next package")

// visitor is called for each regular file of a source. The reader is valid until it returns.
type visitor func(name string, r io.Reader) error

// walk visits the files of a directory and of the Debian packages in it, or of a Debian package.
func walk(path string, visit visitor) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return walkDeb(path, visit)
	}
	// WalkDir does not follow a link to a directory.
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	return filepath.WalkDir(path, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.Type().IsRegular():
			// A link leads to a file that is visited itself, or to one outside (Debian's build and
			// source links).
			return nil
		case isDeb(file):
			return walkDeb(file, visit)
		}
		// A directory of modules has thousands of files, of which a visitor reads a few.
		f := &lazyFile{path: file}
		defer f.close()
		if err := visit(file, f); !errors.Is(err, errNext) {
			return err
		}
		return nil
	})
}

func isDeb(path string) bool { return strings.HasSuffix(path, ".deb") }

// lazyFile is a file that its first Read opens.
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

// decompressors has the compressions of Debian packages and modules, by suffix.
var decompressors = map[string]func(io.Reader) (io.Reader, error){
	".gz": func(r io.Reader) (io.Reader, error) { return gzip.NewReader(r) },
	".xz": func(r io.Reader) (io.Reader, error) { return xz.NewReader(r) },
	".zst": func(r io.Reader) (io.Reader, error) {
		// With one goroutine, an abandoned reader leaves none behind.
		return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxFile))
	},
}

// decompress returns the name without the suffix of its compression, and a reader of the plain
// content.
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

// readAll reads a file of up to maxFile bytes.
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

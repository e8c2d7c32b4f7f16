package kernel

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// A Debian package is an ar archive, deb(5).
const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
	arHeaderEnd  = "`\n"
)

// walkDeb visits the files in a Debian package.
func walkDeb(path string, visit visitor) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := openDeb(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	files := tar.NewReader(data)
	for {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: damaged package: %w", path, err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		err = visit(header.Name, files)
		switch {
		case errors.Is(err, errNext):
			return nil
		case err != nil:
			return err
		}
	}
}

// openDeb returns the plain content of the member data.tar.
func openDeb(r io.Reader) (io.Reader, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil || string(magic) != arMagic {
		return nil, errors.New("not a Debian package")
	}
	header := make([]byte, arHeaderSize)
	for {
		if _, err := io.ReadFull(r, header); err != nil {
			return nil, errors.New("damaged package: it has no data.tar")
		}
		name := strings.TrimSuffix(strings.TrimSpace(string(header[:16])), "/")
		size, err := strconv.ParseInt(strings.TrimSpace(string(header[48:58])), 10, 64)
		if err != nil || size < 0 || string(header[58:]) != arHeaderEnd {
			return nil, errors.New("damaged package: malformed header in its archive")
		}
		if strings.HasPrefix(name, "data.tar") {
			plain, data, err := decompress(name, io.LimitReader(r, size))
			switch {
			case err != nil:
				return nil, fmt.Errorf("damaged package: %w", err)
			case plain != "data.tar":
				return nil, fmt.Errorf("%s: unknown compression (.gz, .xz and .zst are known)", name)
			}
			return data, nil
		}
		// Members begin at even offsets.
		if _, err := io.CopyN(io.Discard, r, size+size&1); err != nil {
			return nil, errors.New("damaged package: it ends too early")
		}
	}
}

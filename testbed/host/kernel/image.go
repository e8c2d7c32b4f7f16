package kernel

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// Image returns the kernel image at path, as it is stored (compressed, wrapped or plain), and its
// name. Path is the image, a Debian package, or a directory with an image or such packages anywhere
// below it.
func Image(path string) (name string, image []byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", nil, err
	}
	if !info.IsDir() && !isDeb(path) {
		f, err := os.Open(path)
		if err != nil {
			return "", nil, err
		}
		defer f.Close()
		image, err = readAll(path, f)
		return path, image, err
	}
	err = walk(path, func(file string, r io.Reader) error {
		if !isImage(file) {
			return nil
		}
		if image != nil {
			return fmt.Errorf("%s has more than one kernel, %s and %s (give one of them)", path, name, file)
		}
		name = file
		if image, err = readAll(file, r); err != nil {
			return err
		}
		return errNext
	})
	if err != nil {
		return "", nil, err
	}
	if image == nil {
		return "", nil, fmt.Errorf("%s has no kernel: no file in it is named vmlinuz* or Image*", path)
	}
	return name, image, nil
}

func isImage(file string) bool {
	base := filepath.Base(file)
	return strings.HasPrefix(base, "vmlinuz") || base == "Image" ||
		strings.HasPrefix(base, "Image.") || strings.HasPrefix(base, "Image-")
}

package kernel

import (
	"fmt"
	"io"
	"path"

	"github.com/u-root/u-root/pkg/cpio"
)

// File is a regular file of an initramfs.
type File struct {
	Name string // from the root, without a leading slash
	Mode uint64 // permission bits
	Data []byte
}

// ModulesGlob matches the modules in an initramfs. Their names sort in the order in which to load
// them.
const ModulesGlob = "modules/*.ko"

// ModuleFiles returns the modules as files of an initramfs.
func ModuleFiles(modules []Module) []File {
	var files []File
	for i, m := range modules {
		files = append(files, File{fmt.Sprintf("modules/%02d-%s.ko", i, m.Name), 0o644, m.Data})
	}
	return files
}

// WriteInitramfs writes an uncompressed initramfs with the files, their directories, and the
// directories that every user space needs.
func WriteInitramfs(w io.Writer, files []File) error {
	records := []cpio.Record{
		cpio.Directory("dev", 0o755),
		cpio.Directory("proc", 0o755),
		cpio.Directory("sys", 0o755),
		cpio.Directory("tmp", 0o1777),
		// A kernel that does not mount devtmpfs opens this file as the init's console.
		cpio.CharDev("dev/console", 0o600, 5, 1),
	}
	made := map[string]bool{".": true}
	var makeDir func(dir string)
	makeDir = func(dir string) {
		if made[dir] {
			return
		}
		makeDir(path.Dir(dir))
		made[dir] = true
		records = append(records, cpio.Directory(dir, 0o755))
	}
	for _, f := range files {
		makeDir(path.Dir(f.Name))
		records = append(records, cpio.StaticRecord(f.Data, cpio.Info{Name: f.Name, Mode: cpio.S_IFREG | f.Mode}))
	}
	archive := cpio.Newc.Writer(w)
	if err := cpio.WriteRecords(archive, records); err != nil {
		return err
	}
	return cpio.WriteTrailer(archive)
}

package kernel

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"slices"
)

// CheckProgram returns an error unless a file's content can be a machine's init: a static
// linux/arm64 build of the Go package main with this path. The path of a package's test binary ends
// in ".test". The error continues the words "the file NAME".
func CheckProgram(data []byte, path string) error {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return errors.New("is not an ELF file")
	}
	switch {
	case file.Machine != elf.EM_AARCH64 || file.Class != elf.ELFCLASS64 || file.Data != elf.ELFDATA2LSB:
		return fmt.Errorf("is for %v, not for arm64", file.Machine)
	case file.Type != elf.ET_EXEC && file.Type != elf.ET_DYN:
		return fmt.Errorf("is not an executable (%v)", file.Type)
	case slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }):
		return errors.New("is dynamically linked, and its machine has no libraries (build it with CGO_ENABLED=0)")
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	switch {
	case err != nil:
		return errors.New("is not a Go program")
	case info.Path != path:
		return fmt.Errorf("is the program %s, not %s", info.Path, path)
	}
	for _, s := range info.Settings {
		if s.Key == "GOOS" && s.Value != "linux" {
			return fmt.Errorf("is for %s, not for linux", s.Value)
		}
	}
	return nil
}

package boottest

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"slices"
)

// agentPackage is the path of the program's main package.
const agentPackage = "github.com/go-vsmmu/vsmmuv3/testbed/cmd/testbed"

// ReadAgent reads a build of this program for linux/arm64, and returns an error if the file is anything else: as a
// machine's init it would not start there.
func ReadAgent(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("the agent: %w (run make, or give one with -agent FILE)", err)
	}
	if err := checkAgent(data); err != nil {
		return nil, fmt.Errorf("the agent %s %w (run make, or give a build of testbed for linux/arm64 with -agent FILE)", path, err)
	}
	return data, nil
}

// checkAgent returns an error that continues the words "the agent FILE".
func checkAgent(data []byte) error {
	file, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return errors.New("is no ELF file")
	}
	switch {
	case file.Machine != elf.EM_AARCH64 || file.Class != elf.ELFCLASS64 || file.Data != elf.ELFDATA2LSB:
		return fmt.Errorf("is for %v, not for arm64", file.Machine)
	case file.Type != elf.ET_EXEC && file.Type != elf.ET_DYN:
		return fmt.Errorf("is no executable (%v)", file.Type)
	case slices.ContainsFunc(file.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }):
		return errors.New("is dynamically linked: its machine has no libraries (build it with CGO_ENABLED=0)")
	}
	info, err := buildinfo.Read(bytes.NewReader(data))
	switch {
	case err != nil:
		return errors.New("is no Go program")
	case info.Path != agentPackage:
		return fmt.Errorf("is the program %s", info.Path)
	}
	for _, s := range info.Settings {
		if s.Key == "GOOS" && s.Value != "linux" {
			return fmt.Errorf("is for %s, not for linux", s.Value)
		}
	}
	return nil
}

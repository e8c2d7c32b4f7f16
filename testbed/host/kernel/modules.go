package kernel

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Module is a kernel module, decompressed.
type Module struct {
	Name string // with underscores, as in the kernel
	Data []byte
}

// Modules returns the wanted drivers and all modules that they depend on, in an order in which they
// can be loaded. Path is a directory or a Debian package. Modules leaves out built-in drivers. A
// driver that is neither a module nor in modules.builtin is an error. If there is no
// modules.builtin, Check finds missing drivers.
func Modules(path string, wanted ...string) ([]Module, error) {
	all := map[string]object{}
	builtin := map[string]bool{}
	// The dependencies of a module are in the module itself. Each pass reads the modules that the
	// last pass found.
	for names := wanted; len(names) > 0; {
		if err := collect(path, names, all, builtin); err != nil {
			return nil, err
		}
		var depends []string
		for _, name := range names {
			depends = append(depends, all[name].depends...)
		}
		names = slices.DeleteFunc(depends, func(name string) bool { _, have := all[name]; return have })
		for _, name := range names {
			all[name] = object{} // stays empty if the next pass does not find the module
		}
	}
	return inOrder(path, all, builtin, wanted)
}

// object is a module with the names of the modules that it depends on.
type object struct {
	data    []byte
	depends []string
}

// collect makes one pass over a source. It adds the named modules to all, and the list in
// modules.builtin to builtin.
func collect(path string, names []string, all map[string]object, builtin map[string]bool) error {
	at := map[string]string{}
	return walk(path, func(file string, r io.Reader) error {
		if filepath.Base(file) == "modules.builtin" {
			list, err := readAll(file, r)
			for line := range strings.Lines(string(list)) {
				builtin[moduleName(strings.TrimSpace(line))] = true
			}
			return err
		}
		name := moduleName(file)
		if !slices.Contains(names, name) {
			return nil
		}
		if other, ok := at[name]; ok {
			return fmt.Errorf("%s has the modules of more than one kernel, %s and %s (give the directory of one)",
				path, other, file)
		}
		at[name] = file
		file, r, err := decompress(file, r)
		if err != nil {
			return err
		}
		data, err := readAll(file, r)
		if err != nil {
			return err
		}
		depends, err := dependencies(data)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		all[name] = object{data, depends}
		return nil
	})
}

// moduleName returns the name of the module in a file, or "" if the file is not a module.
func moduleName(file string) string {
	base, suffix, ok := strings.Cut(filepath.Base(file), ".ko")
	if _, known := decompressors[suffix]; !ok || suffix != "" && !known {
		return ""
	}
	return strings.ReplaceAll(base, "-", "_")
}

// dependencies returns the names of the modules that a module needs. The module itself names them;
// modules.dep exists only after depmod has run, so not in a package.
func dependencies(module []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, fmt.Errorf("not a kernel module: %w", err)
	}
	if file.Machine != elf.EM_AARCH64 {
		return nil, fmt.Errorf("a kernel module for %s, not for arm64", file.Machine)
	}
	list, err := modinfo(file, "depends")
	if err != nil || list == "" {
		return nil, err
	}
	return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
}

// modinfo returns the value of a field in a module's .modinfo section, a list of name=value
// strings, each ended by a zero byte. It returns "" if the section does not have the field.
func modinfo(module *elf.File, name string) (string, error) {
	section := module.Section(".modinfo")
	if section == nil {
		return "", errors.New("not a kernel module: it has no .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return "", fmt.Errorf("damaged kernel module: %w", err)
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if value, ok := strings.CutPrefix(field, name+"="); ok {
			return value, nil
		}
	}
	return "", nil
}

// inOrder puts each module after the modules that it depends on, and returns an error if one is
// missing.
func inOrder(path string, all map[string]object, builtin map[string]bool, wanted []string) ([]Module, error) {
	var order []Module
	done := map[string]bool{}
	var add func(name, neededBy string) error
	add = func(name, neededBy string) error {
		if done[name] {
			return nil
		}
		done[name] = true
		module := all[name]
		if module.data == nil {
			switch {
			case builtin[name]:
				return nil
			case neededBy != "":
				return fmt.Errorf("%s has no module %s, which %s needs", path, name, neededBy)
			case len(builtin) > 0:
				return fmt.Errorf("%s has no driver %s: neither as a module nor built in", path, name)
			}
			return nil
		}
		for _, dep := range module.depends {
			if err := add(dep, name); err != nil {
				return err
			}
		}
		order = append(order, Module{name, module.data})
		return nil
	}
	for _, name := range wanted {
		if err := add(name, ""); err != nil {
			return nil, err
		}
	}
	return order, nil
}

package kernel

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
)

// Module is a kernel module, decompressed.
type Module struct {
	Name string // as the kernel knows it: with underscores
	Data []byte
}

// Modules returns the drivers wanted, and all that they depend on, in an order in which they can be loaded.
// Path is a directory or a Debian package. A driver that the kernel has built in is left out; one that the kernel
// neither has built in (as far as modules.builtin tells) nor as a module is an error that names it.
func Modules(path string, wanted ...string) ([]Module, error) {
	all := map[string]object{}
	builtin := map[string]bool{}
	// One pass after another, since what a module depends on is known only once it has been read.
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
			all[name] = object{} // asked for: a second pass that does not bring it leaves it empty
		}
	}
	return inOrder(path, all, builtin, wanted)
}

// object is a module with the names of those it depends on.
type object struct {
	data    []byte
	depends []string
}

// collect makes one pass over a source: it adds the modules named to all, and what modules.builtin lists to builtin.
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
			return fmt.Errorf("%s holds the modules of more than one kernel, %s and %s: name the directory of one", path, other, file)
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

// moduleName is the name of the module in a file, or "" if the file is none.
func moduleName(file string) string {
	base, suffix, ok := strings.Cut(filepath.Base(file), ".ko")
	if _, known := decompressors[suffix]; !ok || suffix != "" && !known {
		return ""
	}
	return strings.ReplaceAll(base, "-", "_")
}

// dependencies reads the names that follow "depends=" in a module's .modinfo section: a list of strings, each ended by
// a zero byte. Unlike modules.dep it is there before depmod has run, so also in a package.
func dependencies(module []byte) ([]string, error) {
	file, err := elf.NewFile(bytes.NewReader(module))
	if err != nil {
		return nil, fmt.Errorf("not a kernel module: %w", err)
	}
	if file.Machine != elf.EM_AARCH64 {
		return nil, fmt.Errorf("a kernel module for %s, not for arm64", file.Machine)
	}
	section := file.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("not a kernel module: it has no .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, fmt.Errorf("damaged kernel module: %w", err)
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok && list != "" {
			return strings.Split(strings.ReplaceAll(list, "-", "_"), ","), nil
		}
	}
	return nil, nil
}

// inOrder puts each module behind those it depends on, and finds what is missing.
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
				return fmt.Errorf("%s lacks the module %s, which %s needs", path, name, neededBy)
			case len(builtin) > 0:
				return fmt.Errorf("%s has no driver %s: neither as a module nor built in", path, name)
			}
			// Nothing tells what is built in: the boot will show it.
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

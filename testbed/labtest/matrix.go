package labtest

import (
	"fmt"
	"io"
	"slices"
	"strings"
)

// Matrix has the outcomes of tests and of their parts by machine.
type Matrix struct {
	Machines []string `json:"machines"`
	Rows     []Row    `json:"tests"`
}

// Row has the outcomes of a test, or of a part of the conformance suite. Each cell is for the
// machine at its index. It is empty if the machine did not run the test. Otherwise it is "pass",
// "skip" or "fail". With subtests it counts the subtests of each outcome, such as "12 pass 2 skip".
type Row struct {
	Test  string   `json:"test"`
	Cells []string `json:"outcomes"`
}

// matrixOf returns the matrix of tests. Each top-level test and each part of the conformance suite
// has a row.
func matrixOf(tests []Test) Matrix {
	var m Matrix
	counts := map[[2]string]map[Outcome]int{} // by row and machine
	var rows []string
	for _, t := range tests {
		row := rowOf(t)
		if !slices.Contains(m.Machines, t.Machine) {
			m.Machines = append(m.Machines, t.Machine)
		}
		if row == "" {
			continue
		}
		if !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
		key := [2]string{row, t.Machine}
		if counts[key] == nil {
			counts[key] = map[Outcome]int{}
		}
		counts[key][t.Outcome]++
	}
	for _, row := range rows {
		r := Row{Test: row}
		for _, machine := range m.Machines {
			r.Cells = append(r.Cells, cell(counts[[2]string{row, machine}]))
		}
		m.Rows = append(m.Rows, r)
	}
	return m
}

// rowOf returns the row that counts a test: the test's own row, or the row of its part of the
// conformance suite. It returns "" for a test that has no row.
func rowOf(t Test) string {
	if rest, ok := strings.CutPrefix(t.Name, conformance); ok {
		part, _, sub := strings.Cut(rest, "/")
		if !sub {
			return "" // the row counts the subtests
		}
		return conformance + part
	}
	name, _, sub := strings.Cut(t.Name, "/")
	if sub || name == testKernelConformance {
		return ""
	}
	return name
}

// cell returns the text of a cell.
func cell(counts map[Outcome]int) string {
	var parts []string
	total := 0
	for _, o := range []Outcome{Pass, Skip, Fail} {
		if n := counts[o]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, o))
			total += n
		}
	}
	if total == 1 {
		return strings.TrimPrefix(parts[0], "1 ")
	}
	return strings.Join(parts, " ")
}

// write writes the matrix for people, if there is more than one machine.
func (m *Matrix) write(w io.Writer, section func(title string)) {
	if len(m.Machines) < 2 {
		return
	}
	section("Tests by machine")
	fmt.Fprintf(w, "  test\t%s\n", strings.Join(m.Machines, "\t"))
	for _, row := range m.Rows {
		cells := slices.Clone(row.Cells)
		for i, c := range cells {
			if c == "" {
				cells[i] = "."
			}
		}
		fmt.Fprintf(w, "  %s\t%s\n", row.Test, strings.Join(cells, "\t"))
	}
}

package replay

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
)

// Text writes the summary for people. Lines are broken between words at width columns; colour adds
// colours.
func (s *Summary) Text(w io.Writer, width int, colour bool) error {
	var b bytes.Buffer
	p := printer{&b, width, colour}
	p.head(s)
	p.ids(s.IDs)
	p.streams(s.Streams)
	p.counts("Commands", s.Commands, fmt.Sprintf("%d register stores, %d register loads, %d invalidate calls of hosts",
		s.Stores, s.Loads, s.Invalidations))
	p.counts("Events", s.Events, "")
	p.counts("Interrupts", s.Interrupts, "")
	p.faults(s.Faults)
	p.verdict(s)
	_, err := w.Write(b.Bytes())
	return err
}

type printer struct {
	*bytes.Buffer
	width  int
	colour bool
}

// Colours, as SGR parameters.
const (
	bold  = "1"
	dim   = "2"
	red   = "31"
	green = "32"
)

// in returns a text of one or more lines in colour.
func (p printer) in(colour, text string) string {
	text = cli.Printable(text)
	if !p.colour {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func (p printer) title(format string, args ...any) {
	fmt.Fprintf(p, "\n%s\n", p.in(bold, inOneLine(fmt.Sprintf(format, args...))))
}

// inOneLine returns a text of unknown origin in a form that is safe to print on one line.
func inOneLine(text string) string { return cli.Printable(strings.ReplaceAll(text, "\n", " ")) }

// table prints rows with aligned cells. The last cell of a row is wrapped.
func (p printer) table(rows [][]string) {
	const gap = "  "
	var widths []int
	for _, row := range rows {
		for i, cell := range row[:len(row)-1] {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		line := gap
		for i, cell := range row[:len(row)-1] {
			line += fmt.Sprintf("%-*s%s", widths[i], cell, gap)
		}
		indent := utf8.RuneCountInString(line)
		last := wrapped(inOneLine(row[len(row)-1]), p.width-indent)
		fmt.Fprintf(p, "%s%s\n", line, strings.Join(last, "\n"+strings.Repeat(" ", indent)))
	}
}

// wrapped returns a text in lines of whole words. A line is wider than width only if a word is.
func wrapped(text string, width int) (all []string) {
	line := ""
	for word := range strings.SplitSeq(text, " ") {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width:
			all, line = append(all, line), word
		default:
			line += " " + word
		}
	}
	return append(all, line)
}

func (p printer) head(s *Summary) {
	title := s.Title
	if title == "" {
		title = "untitled transcript"
	}
	fmt.Fprintf(p, "%s\n", p.in(bold, inOneLine(title)))
	fmt.Fprintf(p, "  %.1f s, %d entries", s.Seconds, s.Entries)
	if !s.Recorded.IsZero() {
		fmt.Fprintf(p, ", recorded on %s", s.Recorded.Format("2006-01-02"))
	}
	fmt.Fprintln(p)
	if s.Cut != "" {
		fmt.Fprintf(p, "  %s\n", p.in(red, inOneLine("cut off: "+s.Cut)))
	}
}

func (p printer) ids(all []ID) {
	// A transcript may lack the inputs of the derivation.
	derived := slices.ContainsFunc(all, func(f ID) bool { return f.Reason != "" })
	title, meaning := "ID registers that the guest reads", "meaning"
	if derived {
		title, meaning = "ID registers of the host, and those that the guest reads", "meaning and reason"
	}
	p.title("%s", title)
	row := func(register, field, host, guest, why string) []string {
		if derived {
			return []string{register, field, host, guest, why}
		}
		return []string{register, field, guest, why}
	}
	rows := [][]string{row("", "field", "host", "guest", meaning)}
	hidden := 0
	for _, f := range all {
		if f.Host == 0 && f.Guest == 0 {
			hidden++
			continue
		}
		why := f.Meaning
		if why != "" && f.Reason != "" {
			why += ": "
		}
		why += f.Reason
		rows = append(rows, row(f.Register, f.Field, fmt.Sprint(f.Host), fmt.Sprint(f.Guest), why))
	}
	p.table(rows)
	if hidden > 0 {
		fmt.Fprintf(p, "  %s\n", p.in(dim, fmt.Sprintf("and %d fields that are 0 (listed with -json)", hidden)))
	}
}

// maxBinds is the largest number of binds that is listed for a stream.
const maxBinds = 16

func (p printer) streams(all []Stream) {
	for _, s := range all {
		name := ""
		if s.Name != "" {
			name = " (" + s.Name + ")"
		}
		p.title("Stream %#x%s: bind-guest-stage calls", s.StreamID, name)
		var rows [][]string
		for i, b := range s.Binds {
			if i == maxBinds {
				rows = append(rows, []string{"", fmt.Sprintf("and %d more", len(s.Binds)-i)})
				break
			}
			text := b.Text
			if b.Error != "" {
				text += " -> " + b.Error
			}
			rows = append(rows, []string{fmt.Sprintf("%d.", i+1), fmt.Sprintf("%.3f s", b.Seconds), text})
		}
		p.table(rows)
		if d := s.DMA; d.Reads+d.Writes+d.Refused > 0 {
			fmt.Fprintf(p, "  DMA: %d reads of %s, %d writes of %s", d.Reads, size(d.Read), d.Writes, size(d.Written))
			if d.Refused > 0 {
				fmt.Fprintf(p, ", %s", p.in(red, fmt.Sprintf("%d refused", d.Refused)))
			}
			fmt.Fprintln(p)
		}
	}
}

func size(n uint64) string {
	if n < 1<<20 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
}

// counts lists counters in descending order.
func (p printer) counts(title string, m map[string]uint64, more string) {
	p.title("%s", title)
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		return cmp.Or(cmp.Compare(m[b], m[a]), strings.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, m[name])
	}
	if len(names) == 0 {
		names = []string{"none"}
	}
	p.table([][]string{{strings.Join(names, ", ")}})
	if more != "" {
		fmt.Fprintf(p, "  %s\n", more)
	}
}

func (p printer) faults(all []Fault) {
	if len(all) == 0 {
		return
	}
	p.title("Events reported to the guest")
	var rows [][]string
	for _, f := range all {
		text := f.Text + "; " + f.Fate
		if f.Stage != "" {
			text += ", stage: " + f.Stage
		}
		rows = append(rows, []string{fmt.Sprintf("%.3f s", f.Seconds), text})
	}
	p.table(rows)
}

func (p printer) verdict(s *Summary) {
	if s.OK {
		how, far := "", ""
		if s.Restored {
			how = ", restored into a new one at every step,"
		}
		if s.Cut != "" {
			far = " up to the cut"
		}
		verdict := fmt.Sprintf("OK: replayed in %.0f ms; the device%s behaved the same%s",
			1000*s.ReplaySeconds, how, far)
		fmt.Fprintf(p, "\n%s\n", p.in(green, verdict))
		return
	}
	fmt.Fprintf(p, "\n%s\n", p.in(red, "NOT OK: "+s.Difference))
}

package main

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/go-vsmmu/vsmmuv3/internal/cli"
)

// maxWordInput limits the bytes of standard input that decode reads for the words of one structure.
const maxWordInput = 1 << 20

// wordsOf returns the text of the arguments after the kind. The text is that of standard input if
// there are no arguments and standard input is no terminal, or if the argument is "-".
func wordsOf(args []string, stdin io.Reader) (string, error) {
	fromStdin := len(args) == 1 && args[0] == "-" || len(args) == 0 && !cli.Terminal(stdin)
	if !fromStdin {
		return strings.Join(args, " "), nil
	}
	text, err := io.ReadAll(io.LimitReader(stdin, maxWordInput+1))
	if err != nil {
		return "", fmt.Errorf("read standard input: %w", err)
	}
	if len(text) > maxWordInput {
		return "", fmt.Errorf("standard input has more than %d bytes: too much for one structure", maxWordInput)
	}
	return string(text), nil
}

// logInput returns the log that the arguments name. ok is false if they name another kind, or none
// while standard input is a terminal.
func logInput(args []string, stdin io.Reader) (log io.Reader, ok bool) {
	switch {
	case len(args) == 0:
		return stdin, !cli.Terminal(stdin)
	case args[0] == "-" && len(args) == 1, args[0] == "log" && len(args) == 2 && args[1] == "-":
		return stdin, true
	case args[0] == "log" && len(args) == 1:
		return stdin, true
	case args[0] == "log":
		return strings.NewReader(strings.Join(args[1:], "\n")), true
	}
	return nil, false
}

// The lines of debuggers and dumps that are no words after a label.
var (
	// symbol is what a debugger prints after an address: "<table+64>:".
	symbol = regexp.MustCompile(`\s*<[^<>\n]*>\s*:`)
	// bytesLine is a line of hexdump -C: 16 bytes, and the same as text.
	bytesLine = regexp.MustCompile(`(?m)^([0-9a-f]{8,16})((?: {1,2}[0-9a-f]{2}){16}) *\|.{0,16}\|\r?$`)
	// textLine is a line of crash's rd or of xxd -e -g8: one or two words, and the same as text.
	textLine = regexp.MustCompile(`(?m)^(\s*[0-9a-f]{8,16}:)((?:\s{1,2}[0-9a-f]{16}){1,2}) {2,}\S.{0,15}\r?$`)
	// halvesLine is a line of gdb's x/4wx: halves of two words, the lower first.
	halvesLine = regexp.MustCompile(`(?m)^(.*:)\s+0x([0-9a-f]{8})\s+0x([0-9a-f]{8})` +
		`\s+0x([0-9a-f]{8})\s+0x([0-9a-f]{8})\s*$`)
	// endLine is the last line of hexdump: the number of bytes.
	endLine = regexp.MustCompile(`(?m)^[0-9a-f]{8,16}\s*\z`)
)

// undumped returns text with the lines of dumps as 64-bit words after labels. Words are
// little-endian in memory (§5).
func undumped(text string) string {
	if bytesLine.MatchString(text) {
		text = endLine.ReplaceAllString(text, "")
	}
	text = bytesLine.ReplaceAllStringFunc(text, func(line string) string {
		m := bytesLine.FindStringSubmatch(line)
		b := strings.Fields(m[2])
		slices.Reverse(b)
		return m[1] + ": " + strings.Join(b[8:], "") + " " + strings.Join(b[:8], "")
	})
	text = textLine.ReplaceAllString(text, "$1 $2")
	return halvesLine.ReplaceAllString(text, "$1 $3$2 $5$4")
}

// parseWords reads hexadecimal words, separated by blanks or commas, into their places in a
// structure. given tells which words there are; the others are 0. A word follows the one before it,
// or takes the place that a label gives. A label that is a multiple of the word's size is an offset
// or address in bytes, of which the offset in the structure counts. Other labels are indices.
func parseWords(text string, most, bits int) (words []uint64, given []bool, err error) {
	words, given = make([]uint64, most), make([]bool, most)
	at, n := 0, 0
	if bits == 64 {
		text = undumped(text)
	}
	separator := func(r rune) bool { return unicode.IsSpace(r) || r == ',' }
	for _, token := range strings.FieldsFunc(symbol.ReplaceAllString(text, ": "), separator) {
		label, word, labelled := strings.Cut(token, ":")
		if labelled {
			if at, err = parseLabel(label, most, bits); err != nil {
				return nil, nil, err
			}
		} else {
			word = token
		}
		if word == "" {
			continue
		}
		w, err := parseHex(word, bits)
		if err != nil {
			return nil, nil, fmt.Errorf("%.40q is not a hexadecimal word of %d bits", word, bits)
		}
		n++
		if at < most {
			if given[at] {
				return nil, nil, fmt.Errorf("word %d is given twice", at)
			}
			words[at], given[at] = w, true
		}
		at++
		if at > most && n <= most {
			return nil, nil, fmt.Errorf("word %d is given, but the last one is word %d", at-1, most-1)
		}
	}
	if n > most {
		return nil, nil, fmt.Errorf("%d words given, at most %d expected", n, most)
	}
	return words, given, nil
}

func parseLabel(label string, most, bits int) (int, error) {
	v, err := parseHex(label, 64)
	size := uint64(bits / 8)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%.40q is not an index or an offset", label+":")
	case v%size == 0:
		return int(v / size % uint64(most)), nil
	case v < uint64(most):
		return int(v), nil
	}
	return 0, fmt.Errorf("%.40q is neither an index below %d nor a multiple of %d", label+":", most, size)
}

// parseHex reads a number as C, Go and debuggers write it: 0x, underscores and ULL are optional.
func parseHex(s string, bits int) (uint64, error) {
	s = strings.TrimPrefix(strings.ToLower(s), "0x")
	s = strings.ReplaceAll(strings.TrimRight(s, "ul"), "_", "")
	return strconv.ParseUint(s, 16, bits)
}

// missing says which words were not given, by their registers' names if they are registers.
func missing(given []bool, registers []string) string {
	name := strconv.Itoa
	if registers != nil {
		name = func(i int) string { return registers[i] }
	}
	var parts []string
	for i := 0; i < len(given); i++ {
		if given[i] {
			continue
		}
		first := i
		for i+1 < len(given) && !given[i+1] {
			i++
		}
		part := name(first)
		if i > first {
			part += " to " + name(i)
		}
		parts = append(parts, part)
	}
	words := ""
	switch {
	case registers != nil:
	case len(parts) == 1 && !strings.Contains(parts[0], " "):
		words = "word "
	default:
		words = "words "
	}
	return "Missing: " + words + strings.Join(parts, ", ") + ". Their fields are not shown."
}

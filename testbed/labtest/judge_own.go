package labtest

import (
	"fmt"
	"slices"
)

// minMoves is the number of times that our SMMU must have been saved, discarded and restored while
// the tests ran on a machine.
const minMoves = 50

// isOwn reports whether a machine's SMMU is this project's.
func isOwn(machine string) bool {
	return slices.ContainsFunc(specs, func(s spec) bool { return s.own != nil && s.name == machine })
}

// ownSections returns the checks of each machine whose SMMU is this project's.
func ownSections() (all []section) {
	for _, s := range ownMachines() {
		all = append(all, section{[]string{s.name}, ownChecks(s)})
	}
	return all
}

// ownChecks returns the checks of a machine whose SMMU is this project's.
func ownChecks(s spec) []check {
	own := func(judge func(*Own) (string, bool)) (reached func(*Report) bool, judged func(*Report) (string, bool)) {
		find := func(r *Report) *Own {
			for i := range r.Own {
				if r.Own[i].Machine == s.name {
					return &r.Own[i]
				}
			}
			return nil
		}
		return func(r *Report) bool { return find(r) != nil },
			func(r *Report) (string, bool) {
				if o := find(r); o != nil {
					return judge(o)
				}
				return "the machine did not run", false
			}
	}
	here := func(machine string) bool { return machine == s.name }
	moved, judgeMoves := own(func(o *Own) (string, bool) {
		n := o.moves()
		return fmt.Sprintf("%d times, at %d kinds of moments", n, len(o.Moves)), n >= minMoves
	})
	obeyed, judgeCommands := own(func(o *Own) (string, bool) {
		if len(o.Rejected) > 0 {
			return o.Rejected[0], false
		}
		n := uint64(0)
		for _, count := range o.Commands {
			n += count
		}
		return fmt.Sprintf("%d commands", n), n > 0
	})
	passes, test := "the conformance suite passes", testKernelConformance
	if s.own.refused != "" {
		passes, test = "the host's kernel refuses to nest", s.own.refused
	}
	all := []check{
		{
			"with " + s.what + ", " + passes,
			func(r *Report) bool {
				outcome, _ := outcomeOf(r.Tests, test, here)
				return outcome != notRun
			},
			func(r *Report) (string, bool) {
				outcome, subtests := outcomeOf(r.Tests, test, here)
				failed := slices.ContainsFunc(r.Tests, func(t Test) bool {
					return here(t.Machine) && t.Outcome == Fail
				})
				return fmt.Sprintf("%s: %s, subtests %d", test, outcome, subtests), outcome == Pass && !failed
			},
		},
		{"with " + s.what + ", no command of the host's kernel is rejected", obeyed, judgeCommands},
	}
	if s.own.refused == "" {
		all = append(all, check{
			fmt.Sprintf("with %s, it was saved and restored at least %d times during the tests", s.what, minMoves),
			moved, judgeMoves,
		})
	}
	return all
}

// moves returns how often the SMMU was saved, discarded and restored.
func (o *Own) moves() (n int) {
	for _, made := range o.Moves {
		n += made
	}
	return n
}

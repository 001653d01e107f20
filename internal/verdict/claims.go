// Package verdict holds what was observed against what is declared, and words the result as status conditions.
//
// A path's verdict is made of claims: who answered, how the request travelled, and what stands before the server. Each of
// them is shown, contradicted or unknown, by evidence of its own. A path is verified only where every claim is shown: what
// was not seen passes nothing, and what was seen against a claim is not outvoted by runs that saw nothing. A Record takes
// the runs in one by one and keeps what has to outlast a run: since when something fails, what was proved, and what has been
// shown since.
package verdict

import (
	"slices"
	"strings"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

// claim is one thing that is claimed of a path, and what a run has to say of it.
type claim struct {
	question api.Question
	answer   api.Answer
	evidence string
	// reason is the path's reason where this claim decides it. proof says that one observation suffices against it, and that
	// it must be shown anew over all that was asked before it is believed again.
	reason string
	proof  bool
	// delivered says that the evidence is what the client's Envoy is configured to do, which every run tells as a whole. One
	// request tells of one endpoint.
	delivered bool
}

func shown(question api.Question, evidence string) claim {
	return claim{question: question, answer: api.AnswerShown, evidence: evidence}
}

func contradicted(question api.Question, reason, evidence string) claim {
	return claim{question: question, answer: api.AnswerContradicted, reason: reason, evidence: evidence}
}

// proven is a contradiction that needs no repetition.
func proven(question api.Question, reason, evidence string) claim {
	found := contradicted(question, reason, evidence)
	found.proof = true
	return found
}

func unknown(question api.Question, reason, evidence string) claim {
	return claim{question: question, answer: api.AnswerUnknown, reason: reason, evidence: evidence}
}

// claims are those of one path, in the order in which they are told.
type claims []claim

// decisive is the claim that decides: the first that is proved wrong, else the first that is contradicted, else the first
// of which nothing is known, else the last. Where nothing is claimed, nothing is known.
func (c claims) decisive() claim {
	if len(c) == 0 {
		return unknown(api.QuestionWhat, api.ReasonInconclusive, "nothing was held against what is declared")
	}
	for _, decides := range []func(claim) bool{
		func(c claim) bool { return c.proof },
		func(c claim) bool { return c.answer == api.AnswerContradicted },
		func(c claim) bool { return c.answer == api.AnswerUnknown },
	} {
		for _, one := range c {
			if decides(one) {
				return one
			}
		}
	}
	return c[len(c)-1]
}

// status tells the claims; of two about the same question, the one that decides and then the other's evidence.
func (c claims) status() []api.ClaimStatus {
	var told []api.ClaimStatus
	for _, question := range []api.Question{api.QuestionWho, api.QuestionHow, api.QuestionWhat} {
		var same claims
		for _, one := range c {
			if one.question == question {
				same = append(same, one)
			}
		}
		if len(same) == 0 {
			continue
		}
		first := same.decisive()
		words := []string{first.evidence}
		for _, one := range same {
			if one.answer == first.answer && !slices.Contains(words, one.evidence) {
				words = append(words, one.evidence)
			}
		}
		words = slices.DeleteFunc(words, func(said string) bool { return said == "" })
		told = append(told, api.ClaimStatus{Question: question, Answer: first.answer, Evidence: clip(strings.Join(words, "; "), maxEvidence)})
	}
	return told
}

func outcomeOf(answer api.Answer) api.Outcome {
	switch answer {
	case api.AnswerShown:
		return api.OutcomeMatch
	case api.AnswerContradicted:
		return api.OutcomeMismatch
	default:
		return api.OutcomeUnknown
	}
}

package agents

// What the tests of streams hold what they see against. They are a package of their own, because they play the agents
// with package played, which knows this one.
const (
	PingEvery           = pingEvery
	Silence             = silence
	ReopenPatience      = reopenPatience
	BackOffMin          = backOffMin
	BackOffMax          = backOffMax
	MaxObservationBytes = maxObservationBytes
)

var (
	ErrSilent = errSilent
	BreakOf   = breakOf
)

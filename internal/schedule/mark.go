package schedule

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
)

// Mark stands for all that it was made of: two marks are equal where that was the same.
type Mark [sha256.Size]byte

// MarkOf makes a mark of a struct's exported fields, however deep. Fields that are not exported are no part of it. It
// panics where parts hold what JSON cannot encode, such as a function.
func MarkOf(parts any) Mark {
	encoded, err := json.Marshal(parts)
	if err != nil {
		panic(fmt.Sprintf("a mark of %T: %v", parts, err))
	}
	return sha256.Sum256(encoded)
}

package image

import (
	"embed"
	"strings"
)

//go:embed archive.go image.go libraries.go
var sources embed.FS

// Recipe is this package's own text: images made by another one are not reused.
func Recipe() string {
	var all strings.Builder
	for _, name := range []string{"archive.go", "image.go", "libraries.go"} {
		content, err := sources.ReadFile(name)
		if err != nil {
			panic("a file embedded in this program is missing: " + name)
		}
		all.Write(content)
	}
	return all.String()
}

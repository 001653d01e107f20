package build

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDebianSources(t *testing.T) {
	for _, c := range []struct {
		name    string
		files   map[string]string
		release string
		want    string
	}{
		{
			name:    "one-line format, with a mirror of something else",
			release: "bookworm",
			files: map[string]string{
				"sources.list": "# a comment\n" +
					"deb [arch=amd64 signed-by=/keys/debian.gpg] http://mirror.test/debian bookworm main contrib\n" +
					"deb http://mirror.test/debian bookworm-updates main\n" +
					"deb http://mirror.test/debian bookworm-backports main\n" +
					"deb-src http://mirror.test/debian bookworm main\n",
				"sources.list.d/other.list":              "deb https://other.test/apt stable main\n",
				"sources.list.d/editor.sources.disabled": "Types: deb\nURIs: http://no.test\nSuites: bookworm\nComponents: main\n",
			},
			want: "deb [signed-by=/keys/debian.gpg] http://mirror.test/debian bookworm main\n" +
				"deb http://mirror.test/debian bookworm-updates main\n",
		},
		{
			name:    "stanzas of a newer Debian",
			release: "trixie",
			files: map[string]string{
				"sources.list.d/debian.sources": "Types: deb deb-src\n# the mirror\nURIs: http://mirror.test/debian\nSuites: trixie trixie-updates\n" +
					"Components: main\nSigned-By: /keys/debian.gpg\n\n" +
					"Types: deb\nURIs: http://mirror.test/security\nSuites: trixie-security\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n\n" +
					"Enabled: no\nTypes: deb\nURIs: http://off.test/debian\nSuites: trixie\nComponents: main\n",
			},
			want: "deb [signed-by=/keys/debian.gpg] http://mirror.test/debian bookworm main\n" +
				"deb [signed-by=/keys/debian.gpg] http://mirror.test/debian bookworm-updates main\n" +
				"deb http://mirror.test/security bookworm-security main\n",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := debianSources(aptDir(t, c.files), c.release)
			if err != nil || got != c.want {
				t.Errorf("got\n%s(%v), expected\n%s", got, err, c.want)
			}
		})
	}
}

func TestDebianSourcesWithoutAMirror(t *testing.T) {
	dir := aptDir(t, map[string]string{"sources.list": "deb http://mirror.test/ubuntu noble main\n"})
	if _, err := debianSources(dir, "bookworm"); err == nil || !strings.Contains(err.Error(), "no Debian mirror") {
		t.Errorf("a machine without a Debian mirror got the error %v", err)
	}
}

func aptDir(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

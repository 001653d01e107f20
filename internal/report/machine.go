package report

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"
)

// JSON writes the report as one object: verdict, and probes with their checks.
func (r Report) JSON(out io.Writer) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(r)
}

// The elements of JUnit XML that Jenkins and GitLab read.
type (
	junitSuites struct {
		XMLName  xml.Name     `xml:"testsuites"`
		Name     string       `xml:"name,attr"`
		Tests    int          `xml:"tests,attr"`
		Failures int          `xml:"failures,attr"`
		Errors   int          `xml:"errors,attr"`
		Suites   []junitSuite `xml:"testsuite"`
	}
	junitSuite struct {
		Name       string          `xml:"name,attr"`
		Tests      int             `xml:"tests,attr"`
		Failures   int             `xml:"failures,attr"`
		Errors     int             `xml:"errors,attr"`
		Skipped    int             `xml:"skipped,attr"`
		Time       string          `xml:"time,attr"`
		Properties []junitProperty `xml:"properties>property"`
		Cases      []junitCase     `xml:"testcase"`
	}
	junitProperty struct {
		Name  string `xml:"name,attr"`
		Value string `xml:"value,attr"`
	}
	junitCase struct {
		ClassName string       `xml:"classname,attr"`
		Name      string       `xml:"name,attr"`
		Time      string       `xml:"time,attr"`
		Failure   *junitDetail `xml:"failure"`
		Error     *junitDetail `xml:"error"`
	}
	junitDetail struct {
		Type    string `xml:"type,attr"`
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
)

// JUnit writes a suite for every probe and a case for every check. Refuted is a failure, and unknown an error: what is
// skipped counts as passed in most pipelines, and what is unknown must not.
func (r Report) JUnit(out io.Writer) error {
	document := junitSuites{Name: "HTTPSMeshProbe"}
	for _, probe := range r.Probes {
		suite := suiteOf(probe)
		document.Tests += suite.Tests
		document.Failures += suite.Failures
		document.Errors += suite.Errors
		document.Suites = append(document.Suites, suite)
	}
	if _, err := io.WriteString(out, xml.Header); err != nil {
		return err
	}
	encoder := xml.NewEncoder(out)
	encoder.Indent("", "  ")
	if err := encoder.Encode(document); err != nil {
		return err
	}
	_, err := io.WriteString(out, "\n")
	return err
}

func suiteOf(probe Probe) junitSuite {
	suite := junitSuite{Name: probe.Namespace + "/" + probe.Name, Tests: len(probe.Checks), Time: seconds(probe.Seconds)}
	suite.Properties = []junitProperty{{"declared", probe.Declared}, {"verdict", string(probe.Verdict)}, {"reason", probe.Reason}, {"message", probe.Message}}
	if probe.Object != "" {
		suite.Properties = append(suite.Properties, junitProperty{"object", probe.Object})
	}
	for _, check := range probe.Checks {
		one := junitCase{ClassName: probe.Namespace + "." + probe.Name, Name: check.Name, Time: seconds(check.Seconds)}
		detail := &junitDetail{Type: check.Reason, Message: check.Message, Text: fmt.Sprintf("%s: %s\n%s\n", check.Name, saw(check), check.Message)}
		switch check.Verdict {
		case Verified:
		case Refuted:
			one.Failure = detail
			suite.Failures++
		default:
			one.Error = detail
			suite.Errors++
		}
		suite.Cases = append(suite.Cases, one)
	}
	return suite
}

func seconds(value float64) string { return fmt.Sprintf("%.3f", value) }

// TAP writes version 14 of the Test Anything Protocol (testanything.org): a subtest for every probe. Whatever is not
// verified is not ok.
func (r Report) TAP(out io.Writer) error {
	var text strings.Builder
	fmt.Fprintf(&text, "TAP version 14\n1..%d\n", len(r.Probes))
	for i, probe := range r.Probes {
		title := tapText(probe.Namespace + "/" + probe.Name)
		fmt.Fprintf(&text, "# Subtest: %s\n    1..%d\n", title, len(probe.Checks))
		for j, check := range probe.Checks {
			fmt.Fprintf(&text, "    %sok %d - %s\n", tapNot(check.Verdict), j+1, tapText(check.Name))
			if check.Verdict != Verified {
				tapDetail(&text, "      ", check)
			}
		}
		fmt.Fprintf(&text, "%sok %d - %s\n", tapNot(probe.Verdict), i+1, title)
	}
	_, err := io.WriteString(out, text.String())
	return err
}

func tapNot(verdict Verdict) string {
	if verdict == Verified {
		return ""
	}
	return "not "
}

// tapText escapes what begins a directive.
func tapText(text string) string {
	return strings.NewReplacer(`\`, `\\`, `#`, `\#`).Replace(clean(text))
}

// tapDetail writes a YAML block. A JSON string is a YAML string too.
func tapDetail(text *strings.Builder, indent string, check Check) {
	fmt.Fprintf(text, "%s---\n", indent)
	for _, entry := range [][2]string{
		{"verdict", string(check.Verdict)}, {"expected", check.Expected}, {"observed", check.Observed}, {"reason", check.Reason}, {"message", check.Message},
	} {
		if entry[1] == "" {
			continue
		}
		// A string is always encoded.
		value, _ := json.Marshal(entry[1])
		fmt.Fprintf(text, "%s%s: %s\n", indent, entry[0], value)
	}
	fmt.Fprintf(text, "%s...\n", indent)
}

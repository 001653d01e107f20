// What curl -k takes, the agent takes: certificates with a negative serial number, and RSA keys of up to 16384 bits, which
// still take no more than some milliseconds to verify with.

//go:debug x509negativeserial=1
//go:debug tlsmaxrsasize=16384

// Command probe is the agent that runs inside the probed containers. It has no dependency outside the standard library
// and needs neither a shell nor any file of the image it runs in.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/meshprobe/httpsmeshprobe/internal/observation"
	"github.com/meshprobe/httpsmeshprobe/internal/prober"
)

const usage = `usage: probe COMMAND

  agent            read requests from standard input, write observations to standard output, one JSON object a line;
                   ends with its standard input
  once ADDRESS     probe host:port once and print the observation ("probe once -h" lists the flags)
  install FILE     copy this program to FILE
  version          print the version
`

// version is set by the linker.
var version = "dev"

// memoryLimit is what the agent's heap and stacks are kept to, in bytes, by collecting garbage more often.
const memoryLimit = 8 << 20

// silence is four of the operator's pings (internal/agents).
const silence = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		fmt.Fprint(os.Stderr, usage)
		return errors.New("no command given")
	}
	switch command, rest := args[0], args[1:]; command {
	case "agent":
		// The containers are other people's: within their limits the agent is to be a guest of 16 MiB, its program included.
		debug.SetGCPercent(25)
		debug.SetMemoryLimit(memoryLimit)
		return prober.Serve(ctx, os.Stdin, os.Stdout, silence)
	case "once":
		return once(ctx, rest)
	case "install":
		if len(rest) != 1 {
			return errors.New("install takes one argument, the file to write")
		}
		return install(rest[0])
	case "version", "--version":
		fmt.Printf("httpsmeshprobe probe %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
		return nil
	case "help", "-h", "--help":
		fmt.Print(usage)
		return nil
	default:
		fmt.Fprint(os.Stderr, usage)
		return fmt.Errorf("unknown command %q", command)
	}
}

func once(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("probe once ADDRESS", flag.ContinueOnError)
	serverName := flags.String("server-name", "", "name for the server_name extension and the Host header")
	path := flags.String("path", "/", "path of the HTTP request")
	timeout := flags.Duration("timeout", 5*time.Second, "limit for the whole probe")
	// Flags may stand before and after the address.
	if err := flags.Parse(args); err != nil {
		return ignoreHelp(err)
	}
	address, rest := flags.Arg(0), flags.Args()
	if len(rest) > 0 {
		if err := flags.Parse(rest[1:]); err != nil {
			return ignoreHelp(err)
		}
	}
	if address == "" || flags.NArg() > 0 {
		flags.Usage()
		return errors.New("once takes one address to probe, as host:port")
	}
	request := observation.Request{ID: 1, Address: address, ServerName: *serverName, Path: *path, Timeout: *timeout}
	return json.NewEncoder(os.Stdout).Encode(prober.Probe(ctx, request))
}

func ignoreHelp(err error) error {
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	return err
}

// install writes to a neighbour first and renames it, so that a container never sees half a program.
func install(target string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	source, err := os.Open(self)
	if err != nil {
		return err
	}
	defer source.Close()
	part, err := os.CreateTemp(filepath.Dir(target), ".probe-*")
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	_, err = io.Copy(part, source)
	if err := errors.Join(err, part.Chmod(0o555), part.Close()); err != nil {
		return err
	}
	return os.Rename(part.Name(), target)
}

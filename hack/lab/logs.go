package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/meshprobe/httpsmeshprobe/hack/lab/internal/instance"
)

func runLogs(ctx context.Context, arguments []string) error {
	flags := newFlags("logs PROGRAM", "Shows what one of the lab's programs says, such as kubelet or kube-apiserver.\nWithout a program, lists them. Pods' logs are for kubectl logs.")
	name := nameFlag(flags)
	follow := flags.Bool("follow", false, "go on showing what is added, until interrupted")
	lab, err := parseForLab(flags, name, arguments)
	if err != nil {
		return err
	}
	if flags.NArg() == 0 {
		fmt.Println(strings.Join(logNames(lab), "\n"))
		return nil
	}
	if flags.NArg() > 1 {
		return errors.New("lab logs shows one program at a time")
	}
	file, err := os.Open(filepath.Join(lab.LogsDir(), flags.Arg(0)+".log"))
	if err != nil {
		return fmt.Errorf("the lab %q has no log of %q; it has: %s", lab.Name, flags.Arg(0), strings.Join(logNames(lab), ", "))
	}
	defer file.Close()
	return show(ctx, file, *follow)
}

func logNames(lab instance.Instance) []string {
	files, _ := filepath.Glob(filepath.Join(lab.LogsDir(), "*.log"))
	names := make([]string, 0, len(files))
	for _, file := range files {
		if info, err := os.Lstat(file); err == nil && info.Mode().IsRegular() {
			names = append(names, strings.TrimSuffix(filepath.Base(file), ".log"))
		}
	}
	sort.Strings(names)
	return names
}

func show(ctx context.Context, file *os.File, follow bool) error {
	for {
		if _, err := io.Copy(os.Stdout, file); err != nil {
			return fmt.Errorf("cannot show %s: %w", file.Name(), err)
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}

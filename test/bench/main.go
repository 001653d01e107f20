// Command bench measures on a lab what a probe costs, along one path against one server, by four ways of asking, beside
// Debian's prometheus-blackbox-exporter; how long a probe takes from apply to Ready beside its pods; how long its
// conditions take to follow a changed policy; and what computing the policies of many Services costs. hack/bench.sh brings
// the lab up and runs it inside the lab's network.
package main

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/signal"
	"slices"
	"time"

	securityv1 "istio.io/client-go/pkg/apis/security/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	api "github.com/meshprobe/httpsmeshprobe/api/v1alpha1"
)

func main() {
	exporter := flag.String("exporter", "", "the program prometheus-blackbox-exporter; without it the comparison is left out")
	rounds := flag.Int("rounds", 200, "measurements of each way of asking")
	applies := flag.Int("applies", 5, "measurements of apply-to-Ready, and of a pod a check")
	flips := flag.Int("flips", 40, "measurements of a changed policy")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *exporter, *rounds, *applies, *flips); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, exporter string, rounds, applies, flips int) error {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(securityv1.AddToScheme(scheme))
	utilruntime.Must(api.AddToScheme(scheme))
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return err
	}
	config.QPS, config.Burst = 200, 200
	cluster, err := client.NewWithWatch(config, client.Options{Scheme: scheme})
	if err != nil {
		return err
	}
	lab := &bench{cluster: cluster, config: config}
	defer lab.cleanUp()
	if err := lab.prepare(ctx); err != nil {
		return err
	}
	if err := lab.compareWays(ctx, exporter, rounds, applies); err != nil {
		return err
	}
	if err := lab.timeApplies(ctx, applies); err != nil {
		return err
	}
	if err := lab.timeFlips(ctx, flips); err != nil {
		return err
	}
	return timePolicies()
}

// row is one line of a table: a name and its sorted measurements.
type row struct {
	name  string
	times []time.Duration
}

// takeTurns measures every way n times, one after the other in each round.
func takeTurns(n int, ways []way) ([]row, error) {
	rows := make([]row, len(ways))
	for range n {
		for i, way := range ways {
			took, err := way.once()
			if err != nil {
				return nil, fmt.Errorf("%s: %w", way.name, err)
			}
			rows[i].name = way.name
			rows[i].times = append(rows[i].times, took)
		}
	}
	for _, r := range rows {
		slices.Sort(r.times)
	}
	return rows, nil
}

// quantile is the nearest-rank quantile of the measurements, q from 0 to 1.
func (r row) quantile(q float64) time.Duration {
	rank := int(math.Ceil(q * float64(len(r.times))))
	return r.times[max(rank, 1)-1]
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

// printTable prints medians and 95th percentiles, and the medians' ratio to that of the row named base.
func printTable(title string, rows []row, base string) {
	fmt.Printf("\n%s\n  %-44s %6s %12s %12s %8s\n", title, "", "n", "median", "p95", "ratio")
	var unit time.Duration
	for _, r := range rows {
		if r.name == base {
			unit = r.quantile(0.5)
		}
	}
	for _, r := range rows {
		ratio := ""
		if unit > 0 {
			ratio = fmt.Sprintf("%.2f", float64(r.quantile(0.5))/float64(unit))
		}
		fmt.Printf("  %-44s %6d %12s %12s %8s\n", r.name, len(r.times), milliseconds(r.quantile(0.5)), milliseconds(r.quantile(0.95)), ratio)
	}
}

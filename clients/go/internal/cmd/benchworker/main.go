// Command benchworker is benchmarks/load/work.py in Go: a worker with a trivial handler, until a number of jobs
// has been handled. It speaks the protocol of benchmarks/harness/runner.py.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

// As in benchmarks/load/payloads.py.
const (
	kind  = "bench"
	queue = "bench"
)

func main() {
	jobs := flag.Int64("jobs", 0, "ends when so many were handled")
	slots := flag.Int("slots", 256, "jobs at once")
	flag.Parse()
	if err := run(*jobs, *slots); err != nil {
		log.Fatal(err)
	}
}

func run(jobs int64, slots int) error {
	var handled atomic.Int64
	done := make(chan struct{})
	app := worker.NewApp()
	app.Handle(kind, queue, func(context.Context, *worker.Job) ([]byte, error) {
		if handled.Add(1) == jobs {
			close(done)
		}
		return nil, nil
	})
	quiet := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	w, err := worker.New(app, worker.WithSlots(slots), worker.WithLogger(quiet))
	if err != nil {
		return err
	}
	harness := bufio.NewScanner(os.Stdin)
	fmt.Println("ready")
	harness.Scan()
	began := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(context.Background()) }()
	select {
	case <-done:
	case err := <-ended:
		return fmt.Errorf("the worker ended before its jobs did: %w", err)
	}
	result := map[string]any{"seconds": time.Since(began).Seconds(), "handled": handled.Load()}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		return err
	}
	harness.Scan()
	w.Stop()
	return <-ended
}

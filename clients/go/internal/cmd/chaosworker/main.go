//go:build unix

// Command chaosworker is the worker of the chaos runs (tests/chaos) in Go: its handlers do what the payloads say, and
// what arrives and what is answered goes to a history that the checker reads beside those of the Python workers.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

const (
	directoryVariable = "CHAOS_HISTORY"
	whoVariable       = "CHAOS_WHO"
	snoozeFor         = 200 * time.Millisecond
	gateLookEach      = 100 * time.Millisecond
)

func main() {
	servers := flag.String("server", "", "host:port, several with commas")
	queues := flag.String("queues", "", "queues to serve, several with commas")
	slots := flag.Int("slots", 10, "how many jobs run at once")
	grace := flag.Float64("grace", 30, "seconds that handlers get to finish")
	name := flag.String("name", "", "the worker's name")
	flag.Parse()
	if err := run(*servers, strings.Split(*queues, ","), *slots, *grace, *name); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

func run(servers string, queues []string, slots int, grace float64, name string) error {
	directory := os.Getenv(directoryVariable)
	history, err := newHistory(directory, os.Getenv(whoVariable))
	if err != nil {
		return err
	}
	app := worker.NewApp()
	app.Handle("work", queues[0], work)
	app.Handle("hold", queues[0], hold(directory))
	made, err := worker.New(app, worker.WithServers(servers), worker.WithQueues(queues...), worker.WithSlots(slots),
		worker.WithGrace(time.Duration(grace*float64(time.Second))), worker.WithName(name),
		worker.WithDialOptions(
			grpc.WithChainStreamInterceptor(history.stream), grpc.WithChainUnaryInterceptor(history.unary),
		))
	if err != nil {
		return err
	}
	go history.witness()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	return made.Run(ctx)
}

// script is what a job's payload tells its handler.
type script struct {
	Milliseconds int64  `json:"ms"`
	First        string `json:"first"`
	Gate         string `json:"gate"`
}

// resultOf tells the runs of one job apart, so that the run whose result is stored can be named.
func resultOf(job *worker.Job) []byte { return fmt.Appendf(nil, "%s:%d", job.JobID, job.Fence) }

// work takes its time; a first run may fail, be snoozed or be rejected.
func work(ctx context.Context, job *worker.Job) ([]byte, error) {
	var told script
	if err := json.Unmarshal(job.Payload, &told); err != nil {
		return nil, worker.Reject(err)
	}
	if err := sleep(ctx, time.Duration(told.Milliseconds)*time.Millisecond); err != nil {
		return nil, err
	}
	if job.Deliveries == 1 {
		switch told.First {
		case "fail":
			return nil, errors.New("this run was told to fail")
		case "snooze":
			return nil, worker.Snooze(snoozeFor)
		case "reject":
			return nil, worker.Reject(errors.New("this run was told to be rejected"))
		}
	}
	return resultOf(job), nil
}

// hold runs until the test opens the gate: a file in the history's directory.
func hold(directory string) worker.Handler {
	return func(ctx context.Context, job *worker.Job) ([]byte, error) {
		var told script
		if err := json.Unmarshal(job.Payload, &told); err != nil {
			return nil, worker.Reject(err)
		}
		for {
			if _, err := os.Stat(filepath.Join(directory, told.Gate)); err == nil {
				return resultOf(job), nil
			}
			if err := sleep(ctx, gateLookEach); err != nil {
				return nil, err
			}
		}
	}
}

func sleep(ctx context.Context, duration time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(duration):
		return nil
	}
}

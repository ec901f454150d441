// Runner for River (https://riverqueue.com): see benchmarks/harness/runner.py for the protocol.
//
// MaxWorkers, FetchCooldown and FetchPollInterval are those that River's own `river bench` uses; for
// latency the cooldown is the least that River takes. The completer is River's default, batched.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

var (
	action   = flag.String("action", "", "setup, enqueue, work or produce")
	jobs     = flag.Int("jobs", 0, "how many jobs")
	latency  = flag.Bool("latency", false, "work: report the age of each job at its handler")
	rate     = flag.Float64("rate", 20, "produce: jobs a second")
	inFlight = flag.Int("in-flight", 2, "enqueue: calls at the same time")
	batch    = flag.Int("batch", 5000, "enqueue: jobs a call")
	workers  = flag.Int("max-workers", 2000, "work: River's MaxWorkers")
)

type benchArgs struct {
	N int   `json:"n,omitempty"`
	T int64 `json:"t,omitempty"`
}

func (benchArgs) Kind() string { return "bench" }

type worker struct {
	river.WorkerDefaults[benchArgs]
	count atomic.Int64
	done  chan struct{}
	lock  sync.Mutex
	ages  []int64
}

func (w *worker) Work(_ context.Context, job *river.Job[benchArgs]) error {
	if *latency {
		age := time.Now().UnixMicro() - job.Args.T
		w.lock.Lock()
		w.ages = append(w.ages, age)
		w.lock.Unlock()
	}
	if w.count.Add(1) == int64(*jobs) {
		close(w.done)
	}
	return nil
}

var stdin = bufio.NewReader(os.Stdin)

func ready() {
	fmt.Println("ready")
	_, _ = stdin.ReadString('\n')
}

func report(result map[string]any) {
	line, err := json.Marshal(result)
	check(err)
	fmt.Println(string(line))
	_, _ = stdin.ReadString('\n')
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	flag.Parse()
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Getenv("BENCH_DATABASE_URL"))
	check(err)
	defer pool.Close()
	check(pool.Ping(ctx))
	switch *action {
	case "setup":
		setup(ctx, pool)
	case "enqueue":
		enqueue(ctx, pool)
	case "work":
		work(ctx, pool)
	case "produce":
		produce(ctx, pool)
	default:
		log.Fatalf("unknown action %q", *action)
	}
}

func setup(ctx context.Context, pool *pgxpool.Pool) {
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	check(err)
	_, err = migrator.Migrate(ctx, rivermigrate.DirectionUp, nil)
	check(err)
}

// A client that only inserts.
func inserter(pool *pgxpool.Pool) *river.Client[pgx.Tx] {
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{FetchCooldown: cooldown(), Logger: quiet()})
	check(err)
	return client
}

func cooldown() time.Duration {
	if *latency || *action == "produce" {
		return river.FetchCooldownMin
	}
	return 2 * time.Millisecond
}

func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(io.MultiWriter(os.Stderr), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func enqueue(ctx context.Context, pool *pgxpool.Pool) {
	client := inserter(pool)
	ready()
	began := time.Now()
	var next atomic.Int64
	var group sync.WaitGroup
	for range *inFlight {
		group.Go(func() {
			for {
				start := int(next.Add(int64(*batch))) - *batch
				if start >= *jobs {
					return
				}
				params := make([]river.InsertManyParams, 0, *batch)
				for n := start; n < min(start+*batch, *jobs); n++ {
					params = append(params, river.InsertManyParams{Args: benchArgs{N: n}})
				}
				_, err := client.InsertManyFast(ctx, params)
				check(err)
			}
		})
	}
	group.Wait()
	report(map[string]any{"seconds": time.Since(began).Seconds()})
}

func work(ctx context.Context, pool *pgxpool.Pool) {
	handler := &worker{done: make(chan struct{})}
	registry := river.NewWorkers()
	river.AddWorker(registry, handler)
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{
		FetchCooldown:     cooldown(),
		FetchPollInterval: 20 * time.Millisecond,
		Logger:            quiet(),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: *workers}},
		Workers:           registry,
	})
	check(err)
	ready()
	began := time.Now()
	check(client.Start(ctx))
	<-handler.done
	result := map[string]any{"seconds": time.Since(began).Seconds(), "handled": handler.count.Load()}
	if *latency {
		result["latencies_us"] = handler.ages
	}
	report(result)
	stop, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	check(client.Stop(stop))
}

func produce(ctx context.Context, pool *pgxpool.Pool) {
	client := inserter(pool)
	// One timer for many jobs at high rates, as the other producers do.
	each := 1
	if *rate > 100 {
		each = max(1, int(*rate*0.01+0.5))
	}
	ready()
	began := time.Now()
	var group sync.WaitGroup
	for sent := 0; sent < *jobs; sent += each {
		due := began.Add(time.Duration(float64(sent) / *rate * float64(time.Second)))
		time.Sleep(time.Until(due))
		count := min(each, *jobs-sent)
		group.Go(func() {
			if count == 1 {
				_, err := client.Insert(ctx, benchArgs{T: time.Now().UnixMicro()}, nil)
				check(err)
				return
			}
			params := make([]river.InsertManyParams, count)
			for i := range params {
				params[i].Args = benchArgs{T: time.Now().UnixMicro()}
			}
			_, err := client.InsertManyFast(ctx, params)
			check(err)
		})
	}
	group.Wait()
	report(map[string]any{"seconds": time.Since(began).Seconds(), "batch": each})
}

package worker_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

// settle works one job of an app on a fake server and gives it as it has ended.
func settle(app *worker.App, job atlasqueue.NewJob) atlasqueue.Job {
	server, err := atlasqueuetest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Stop()
	client, err := atlasqueue.NewClient(atlasqueue.WithServers(server.Address))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	w, err := worker.New(app, worker.WithServers(server.Address), worker.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	id, err := client.Enqueue(ctx, job)
	if err != nil {
		log.Fatal(err)
	}
	done, err := client.Wait(ctx, id)
	if settled := (*atlasqueue.SettledError)(nil); err != nil && !errors.As(err, &settled) {
		log.Fatal(err)
	}
	w.Stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	return done
}

// A typed handler: payload and result are JSON.
func ExampleHandleJSON() {
	type order struct {
		Prices []int `json:"prices"`
	}
	type invoice struct {
		Total int `json:"total"`
	}
	app := worker.NewApp()
	worker.HandleJSON(app, "bill", "shop", func(_ context.Context, _ *worker.Job, in order) (invoice, error) {
		var out invoice
		for _, price := range in.Prices {
			out.Total += price
		}
		return out, nil
	})

	job := settle(app, atlasqueue.NewJob{Queue: "shop", Kind: "bill", Payload: []byte(`{"prices": [3, 4]}`)})
	fmt.Printf("%s\n", job.Result)
	// Output: {"total":7}
}

// What can never succeed becomes a dead letter at once.
func ExampleReject() {
	app := worker.NewApp()
	app.Handle("shout", "media", func(_ context.Context, job *worker.Job) ([]byte, error) {
		if len(job.Payload) == 0 {
			return nil, worker.Reject(errors.New("there is nothing to shout"))
		}
		return job.Payload, nil
	})

	job := settle(app, atlasqueue.NewJob{Queue: "media", Kind: "shout"})
	fmt.Println(job.State, job.DeadLetterReason)
	// Output: DEAD REJECTED
}

// An attempt that fails goes on where its checkpoint says.
func ExampleJob_SaveCheckpoint() {
	app := worker.NewApp()
	app.Handle("copy", "files", func(_ context.Context, job *worker.Job) ([]byte, error) {
		page := uint64(0)
		if job.Checkpoint != nil {
			page = binary.BigEndian.Uint64(job.Checkpoint)
		}
		for ; page < 10; page++ {
			job.SetProgress(int(page)*10, "")
			if err := job.SaveCheckpoint(binary.BigEndian.AppendUint64(nil, page)); err != nil {
				return nil, err
			}
			if page == 7 && job.Attempt == 0 {
				return nil, worker.Retry(errors.New("the disk is busy"), 0)
			}
		}
		return fmt.Appendf(nil, "%d pages, the last of them from page %d on", page, binary.BigEndian.Uint64(job.Checkpoint)), nil
	})

	job := settle(app, atlasqueue.NewJob{Queue: "files", Kind: "copy"})
	fmt.Printf("%s\n", job.Result)
	// Output: 10 pages, the last of them from page 7 on
}

// Middleware wraps all handlers: here it gives each run a time limit.
func ExampleApp_Use() {
	app := worker.NewApp()
	app.Use(func(next worker.Handler) worker.Handler {
		return func(ctx context.Context, job *worker.Job) ([]byte, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Minute)
			defer cancel()
			return next(ctx, job)
		}
	})
	app.Handle("resize", "media", func(ctx context.Context, _ *worker.Job) ([]byte, error) {
		_, limited := ctx.Deadline()
		return fmt.Appendf(nil, "limited: %t", limited), nil
	})

	job := settle(app, atlasqueue.NewJob{Queue: "media", Kind: "resize"})
	fmt.Printf("%s\n", job.Result)
	// Output: limited: true
}

// A handler alone, without a server.
func ExampleNewJob() {
	shout := func(_ context.Context, job *worker.Job) ([]byte, error) { return append(job.Payload, '!'), nil }

	ctx := context.Background()
	result, err := shout(ctx, worker.NewJob(ctx, "shout", []byte("hello")))
	fmt.Printf("%s %v\n", result, err)
	// Output: hello! <nil>
}

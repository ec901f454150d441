package atlasqueuetest_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

// A program that enqueues is tested by what it has enqueued; in a test, NewServer(t) starts the server and ends it.
func Example() {
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
	ctx := context.Background()

	signUp := func(name string) error {
		_, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "mail", Kind: "welcome", Payload: []byte(name)})
		return err
	}
	if err := signUp("Ada"); err != nil {
		log.Fatal(err)
	}
	for job, err := range client.List(ctx, "mail", atlasqueue.JobFilter{}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(job.Kind, job.State)
	}
	// Output: welcome READY
}

// A retry in an hour, without the hour.
func ExampleServer_PromoteScheduled() {
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
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	app := worker.NewApp()
	app.Handle("welcome", "mail", func(_ context.Context, job *worker.Job) ([]byte, error) {
		if job.Attempt == 0 {
			return nil, errors.New("the mail server is away")
		}
		return []byte("sent"), nil
	})
	w, err := worker.New(app, worker.WithServers(server.Address), worker.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = w.Run(ctx) }()

	id, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "mail", Kind: "welcome"})
	if err != nil {
		log.Fatal(err)
	}
	for job, err := range client.Watch(ctx, id) {
		if err != nil {
			log.Fatal(err)
		}
		if job.State == atlasqueue.Scheduled {
			server.PromoteScheduled()
		}
		if job.Settled() {
			fmt.Printf("%s after %d failure: %s\n", job.State, job.Attempt, job.Result)
		}
	}
	// Output: SUCCEEDED after 1 failure: sent
}

// An answer that is lost: the client repeats the call, and there is one job.
func ExampleServer_LoseNextAnswer() {
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
	ctx := context.Background()

	server.LoseNextAnswer()
	_, err = client.Enqueue(ctx, atlasqueue.NewJob{Queue: "mail", Kind: "welcome"})
	if err != nil {
		log.Fatal(err)
	}
	depth, err := client.Queues.Depth(ctx, "mail")
	fmt.Println(depth.Ready, err)
	// Output: 1 <nil>
}

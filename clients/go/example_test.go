package atlasqueue_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

// connect gives a client of a fake server that has nothing yet, and what ends both.
func connect() (*atlasqueue.Client, func()) {
	server, err := atlasqueuetest.Start()
	if err != nil {
		log.Fatal(err)
	}
	client, err := atlasqueue.NewClient(atlasqueue.WithServers(server.Address))
	if err != nil {
		log.Fatal(err)
	}
	return client, func() { _ = client.Close(); server.Stop() }
}

func Example() {
	server, err := atlasqueuetest.Start() // Yours is a real one, on 127.0.0.1:7420.
	if err != nil {
		log.Fatal(err)
	}
	defer server.Stop()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	app := worker.NewApp()
	app.Handle("greet", "people", func(_ context.Context, job *worker.Job) ([]byte, error) {
		return append([]byte("Hello, "), job.Payload...), nil
	})
	w, err := worker.New(app, worker.WithServers(server.Address))
	if err != nil {
		log.Fatal(err)
	}
	go func() { _ = w.Run(ctx) }()

	client, err := atlasqueue.NewClient(atlasqueue.WithServers(server.Address))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	id, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "people", Kind: "greet", Payload: []byte("Ada")})
	if err != nil {
		log.Fatal(err)
	}
	job, err := client.Wait(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s: %s\n", job.State, job.Result)
	// Output: SUCCEEDED: Hello, Ada
}

// The same id with the same body is one job, so an enqueue may be repeated.
func ExampleClient_Enqueue() {
	client, stop := connect()
	defer stop()
	ctx := context.Background()
	order := atlasqueue.NewJob{
		Queue: "shop", Kind: "charge", Payload: []byte("order 17"), JobID: "0b0e1a3c-5b1e-5d7a-9c41-3f6f5d0f9a17",
		Priority: 1, Deadline: 5 * time.Minute, RetryPolicy: &atlasqueue.RetryPolicy{MaxAttempts: new(int32(3))},
	}
	first, err := client.Enqueue(ctx, order)
	if err != nil {
		log.Fatal(err)
	}
	again, err := client.Enqueue(ctx, order)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(first == again)
	order.Payload = []byte("order 18")
	_, err = client.Enqueue(ctx, order)
	fmt.Println(errors.Is(err, atlasqueue.ErrJobIDConflict))
	// Output:
	// true
	// true
}

func ExampleClient_EnqueueBatch() {
	client, stop := connect()
	defer stop()
	ids, err := client.EnqueueBatch(context.Background(), []atlasqueue.NewJob{
		{Queue: "media", Kind: "resize", Payload: []byte("cat.png")},
		{Queue: "media", Kind: "re size", Payload: []byte("dog.png")},
	})
	if refused := (*atlasqueue.EnqueueBatchError)(nil); errors.As(err, &refused) {
		for position, reason := range refused.Errors {
			fmt.Println(position, errors.Is(reason, atlasqueue.ErrInvalidField))
		}
	}
	fmt.Println(len(ids))
	// Output:
	// 1 true
	// 2
}

// A wait for a job that ends otherwise than with success returns the job within a *SettledError.
func ExampleClient_Wait() {
	client, stop := connect()
	defer stop()
	ctx := context.Background()
	id, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "media", Kind: "resize"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.Cancel(ctx, id); err != nil {
		log.Fatal(err)
	}
	_, err = client.Wait(ctx, id)
	if settled := (*atlasqueue.SettledError)(nil); errors.As(err, &settled) {
		fmt.Println(errors.Is(err, atlasqueue.ErrJobCancelled), settled.Job.State)
	}
	// Output: true CANCELLED
}

func ExampleClient_List() {
	client, stop := connect()
	defer stop()
	ctx := context.Background()
	tomorrow := time.Now().Add(24 * time.Hour)
	_, err := client.EnqueueBatch(ctx, []atlasqueue.NewJob{
		{Queue: "media", Kind: "resize"},
		{Queue: "media", Kind: "report", RunAt: tomorrow},
	})
	if err != nil {
		log.Fatal(err)
	}
	for job, err := range client.List(ctx, "media", atlasqueue.JobFilter{State: atlasqueue.Scheduled}) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(job.Kind, job.State, job.RunAt.Equal(tomorrow))
	}
	// Output: report SCHEDULED true
}

// What a field breaks is told by its path and its bound.
func ExampleError() {
	client, stop := connect()
	defer stop()
	_, err := client.Enqueue(context.Background(), atlasqueue.NewJob{Queue: "media", Kind: "re size"})
	if refused := (*atlasqueue.Error)(nil); errors.As(err, &refused) {
		fmt.Println(refused.Reason, refused.Violations[0].Field)
	}
	// Output: INVALID_FIELD job.kind
}

func ExampleDeadLetters_Redrive() {
	client, stop := connect()
	defer stop()
	ctx := context.Background()
	_, err := client.DeadLetters.Redrive(ctx, "media", atlasqueue.DeadLetterFilter{Reason: atlasqueue.Rejected}, true)
	fmt.Println(errors.Is(err, atlasqueue.ErrQueueNotFound))
	// Output: true
}

// A hook is called around every enqueue: here one that gives each job its tenant.
func ExampleWithEnqueueHook() {
	server, err := atlasqueuetest.Start()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Stop()
	tenant := func(ctx context.Context, jobs []*atlasqueue.NewJob) (context.Context, func(error)) {
		for _, job := range jobs {
			job.Headers = map[string]string{"tenant": "acme"}
		}
		return ctx, func(error) {}
	}
	client, err := atlasqueue.NewClient(atlasqueue.WithServers(server.Address), atlasqueue.WithEnqueueHook(tenant))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	ctx := context.Background()
	id, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "media", Kind: "resize"})
	if err != nil {
		log.Fatal(err)
	}
	job, err := client.Get(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Headers)
	// Output: map[tenant:acme]
}

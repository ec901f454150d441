package atlasqueue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

// exampleTB lets examples, which have no testing.T, use the fake server.
type exampleTB struct {
	testing.TB
	cleanups []func()
}

func (e *exampleTB) Helper()                   {}
func (e *exampleTB) Cleanup(f func())          { e.cleanups = append(e.cleanups, f) }
func (e *exampleTB) Fatalf(f string, a ...any) { panic(fmt.Sprintf(f, a...)) }
func (e *exampleTB) done() {
	for _, each := range e.cleanups {
		each()
	}
}

func Example() {
	tb := &exampleTB{}
	defer tb.done()
	address := atlasqueuetest.NewServer(tb).Address // Yours is 127.0.0.1:7420.
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	app := worker.NewApp()
	app.Handle("greet", "people", func(_ context.Context, job *worker.Job) ([]byte, error) {
		return append([]byte("Hello, "), job.Payload...), nil
	})
	w, err := worker.New(app, worker.WithServers(address))
	if err != nil {
		panic(err)
	}
	go func() { _ = w.Run(ctx) }()

	client, err := atlasqueue.NewClient(atlasqueue.WithServers(address))
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	id, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "people", Kind: "greet", Payload: []byte("Ada")})
	if err != nil {
		panic(err)
	}
	job, err := client.Wait(ctx, id)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s: %s\n", job.State, job.Result)
	// Output: SUCCEEDED: Hello, Ada
}

func ExampleClient_EnqueueBatch() {
	tb := &exampleTB{}
	defer tb.done()
	client, err := atlasqueue.NewClient(atlasqueue.WithServers(atlasqueuetest.NewServer(tb).Address))
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
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

func ExampleDeadLetters_Redrive() {
	tb := &exampleTB{}
	defer tb.done()
	ctx := context.Background()
	client, err := atlasqueue.NewClient(atlasqueue.WithServers(atlasqueuetest.NewServer(tb).Address))
	if err != nil {
		panic(err)
	}
	defer func() { _ = client.Close() }()
	_, err = client.DeadLetters.Redrive(ctx, "media", atlasqueue.DeadLetterFilter{Reason: atlasqueue.Rejected}, true)
	fmt.Println(errors.Is(err, atlasqueue.ErrQueueNotFound))
	// Output: true
}

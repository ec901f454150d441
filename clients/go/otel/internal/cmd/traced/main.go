// Command traced is the Go worker of tests/tracing: a job of the queue "go" enqueues one of the queue "media" for a
// worker in Python. When it is told to stop it prints its spans, a line of JSON each.
package main

import (
	"context"
	"encoding/json"
	"log"
	"os"
	"os/signal"
	"syscall"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	atlasqueueotel "github.com/atlasqueue/atlasqueue/clients/go/otel"
	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

type line struct {
	Name   string   `json:"name"`
	Trace  string   `json:"trace"`
	ID     string   `json:"id"`
	Parent string   `json:"parent"`
	Links  []string `json:"links"`
}

func main() {
	spans := tracetest.NewInMemoryExporter()
	otel.SetTracerProvider(trace.NewTracerProvider(trace.WithSyncer(spans)))
	if err := work(); err != nil {
		log.Fatal(err)
	}
	printed := json.NewEncoder(os.Stdout)
	for _, span := range spans.GetSpans() {
		told := line{
			Name: span.Name, Trace: span.SpanContext.TraceID().String(), ID: span.SpanContext.SpanID().String(),
			Parent: span.Parent.SpanID().String(),
		}
		for _, link := range span.Links {
			told.Links = append(told.Links, link.SpanContext.SpanID().String())
		}
		if err := printed.Encode(told); err != nil {
			log.Fatal(err)
		}
	}
}

func work() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	client, err := atlasqueue.NewClient(atlasqueue.WithEnqueueHook(atlasqueueotel.EnqueueHook()))
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	app := worker.NewApp()
	app.Use(atlasqueueotel.Middleware())
	app.Handle("resize", "go", func(ctx context.Context, _ *worker.Job) ([]byte, error) {
		_, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "media", Kind: "plain"})
		return nil, err
	})
	app.Handle("plain", "go", func(context.Context, *worker.Job) ([]byte, error) { return nil, nil })
	w, err := worker.New(app)
	if err != nil {
		return err
	}
	return w.Run(ctx)
}

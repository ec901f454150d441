package atlasqueueotel_test

import (
	"context"
	"fmt"
	"log"
	"log/slog"

	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	"github.com/atlasqueue/atlasqueue/clients/go/atlasqueuetest"
	atlasqueueotel "github.com/atlasqueue/atlasqueue/clients/go/otel"
	"github.com/atlasqueue/atlasqueue/clients/go/worker"
)

func Example() {
	server, err := atlasqueuetest.Start() // Yours is a real one, on 127.0.0.1:7420.
	if err != nil {
		log.Fatal(err)
	}
	defer server.Stop()
	ctx := context.Background()
	// A program exports by OTLP, and makes its provider the global one, which is the default here.
	spans := tracetest.NewInMemoryExporter()
	provider := atlasqueueotel.WithTracerProvider(trace.NewTracerProvider(trace.WithSyncer(spans)))

	client, err := atlasqueue.NewClient(atlasqueue.WithServers(server.Address),
		atlasqueue.WithEnqueueHook(atlasqueueotel.EnqueueHook(provider)))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	app := worker.NewApp()
	app.Use(atlasqueueotel.Middleware(provider))
	app.Handle("resize", "media", func(context.Context, *worker.Job) ([]byte, error) { return nil, nil })
	w, err := worker.New(app, worker.WithServers(server.Address), worker.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	id, err := client.Enqueue(ctx, atlasqueue.NewJob{Queue: "media", Kind: "resize"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := client.Wait(ctx, id); err != nil {
		log.Fatal(err)
	}
	w.Stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}

	names := map[string]bool{}
	traces := map[string]bool{}
	for _, span := range spans.GetSpans() {
		names[span.SpanKind.String()+": "+span.Name] = true
		traces[span.SpanContext.TraceID().String()] = true
	}
	fmt.Println(names, "in", len(traces), "trace")
	// Output: map[consumer: process media:true producer: enqueue media:true] in 1 trace
}

package atlasqueue_test

import (
	"context"
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// encoded encodes each message as the transport would, and answers that all is stored.
func encoded(_ context.Context, _ string, request, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
	if _, err := proto.Marshal(request.(proto.Message)); err != nil {
		return err
	}
	asked, response := request.(*pb.EnqueueBatchRequest), reply.(*pb.EnqueueBatchResponse)
	for _, job := range asked.GetJobs() {
		response.Results = append(response.Results, &pb.EnqueueResult{Queue: job.GetQueue(), JobId: job.GetJobId()})
	}
	for range asked.GetUniform() {
		response.Uniform = append(response.Uniform, &pb.UniformResult{})
	}
	return nil
}

// What 2 000 jobs cost the producer, the transport aside.
func BenchmarkEnqueueBatch(b *testing.B) {
	headers := map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
	for name, job := range map[string]func(i int) atlasqueue.NewJob{
		"plain":   func(int) atlasqueue.NewJob { return atlasqueue.NewJob{} },
		"own ids": func(int) atlasqueue.NewJob { return atlasqueue.NewJob{JobID: atlasqueue.NewJobID()} },
		"headers": func(int) atlasqueue.NewJob { return atlasqueue.NewJob{Headers: headers} },
		"nothing in common": func(i int) atlasqueue.NewJob {
			return atlasqueue.NewJob{Headers: map[string]string{"number": fmt.Sprint(i)}}
		},
	} {
		jobs := make([]atlasqueue.NewJob, 2000)
		for i := range jobs {
			jobs[i] = job(i)
			jobs[i].Queue, jobs[i].Kind, jobs[i].Payload = "media", "resize", make([]byte, 100)
		}
		b.Run(name, func(b *testing.B) {
			client, err := atlasqueue.NewClient(atlasqueue.WithDialOptions(grpc.WithUnaryInterceptor(encoded)))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { _ = client.Close() })
			b.ReportAllocs()
			for b.Loop() {
				if _, err := client.EnqueueBatch(b.Context(), jobs); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkNewJobID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		atlasqueue.NewJobID()
	}
}

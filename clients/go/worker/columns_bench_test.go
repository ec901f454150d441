package worker

import (
	"context"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// answering encodes each report as the transport would, and says that all is applied.
func answering(_ context.Context, _ string, request, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
	if _, err := proto.Marshal(request.(proto.Message)); err != nil {
		return err
	}
	encoded, err := proto.Marshal(applied(request.(*pb.ReportRequest)))
	if err != nil {
		return err
	}
	return proto.Unmarshal(encoded, reply.(proto.Message))
}

// What 1 000 jobs cost a worker from the event that brings them to the answer for their report, the transport aside.
func BenchmarkWork(b *testing.B) {
	const count = 1000
	shared := &pb.LeasedJob{Queue: "q", Kind: "k", Priority: 3, Deliveries: 1, MaxAttempts: 20}
	together, alone := &pb.LeasedJobs{Uniform: []*pb.UniformLeases{{Shared: shared}}}, &pb.LeasedJobs{}
	for fence := range int64(count) {
		columns := uniform(nil, fence+1)
		together.Uniform[0].JobIds = append(together.Uniform[0].JobIds, columns.GetJobIds()...)
		together.Uniform[0].Fences = append(together.Uniform[0].Fences, fence+1)
		together.Uniform[0].Payloads = append(together.Uniform[0].Payloads, make([]byte, 100))
		one := proto.CloneOf(shared)
		one.JobId, one.Fence, one.Payload = uuid(fence+1), fence+1, make([]byte, 100)
		alone.Jobs = append(alone.Jobs, one)
	}
	for name, leased := range map[string]*pb.LeasedJobs{"one by one": alone, "columns": together} {
		b.Run(name, func(b *testing.B) {
			event, err := proto.Marshal(&pb.LeaseResponse{Event: &pb.LeaseResponse_LeasedJobs{LeasedJobs: leased}})
			if err != nil {
				b.Fatal(err)
			}
			app := NewApp()
			app.Handle("k", "q", func(context.Context, *Job) ([]byte, error) { return nil, nil })
			w, err := New(app, WithLogger(quiet), WithDialOptions(grpc.WithUnaryInterceptor(answering)))
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(w.reporter.servers.close)
			w.stream.base = b.Context()
			if len(leased.GetUniform()) == 0 {
				// As to a server that is older.
				w.reporter.olderUntil = w.reporter.olderUntil.AddDate(9000, 0, 0)
			}
			b.ReportAllocs()
			for b.Loop() {
				response := &pb.LeaseResponse{}
				if err := proto.Unmarshal(event, response); err != nil {
					b.Fatal(err)
				}
				w.stream.handle(response)
				w.executor.waitIdle(b.Context())
				w.reporter.send(b.Context(), w.reporter.take())
				w.reporter.callsOut = 0
				if w.held.count() != 0 {
					b.Fatal("not all was answered")
				}
			}
		})
	}
}

package atlasqueue

import (
	"context"
	"iter"
	"time"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// Queues is what operators do with queues: client.Queues.
type Queues struct{ calls *calls }

// List gives all queues, by name. It ends after the first error.
func (q *Queues) List(ctx context.Context) iter.Seq2[Queue, error] {
	request := &pb.ListQueuesRequest{}
	return pages(func() ([]*pb.Queue, string, error) {
		response, err := call(ctx, q.calls, func(ctx context.Context, s *stubs) (*pb.ListQueuesResponse, error) {
			return s.queues.ListQueues(ctx, request)
		})
		return response.GetQueues(), response.GetNextPageToken(), err
	}, func(token string) { request.PageToken = token }, queueFromProto)
}

// Get reads a queue, or ErrQueueNotFound.
func (q *Queues) Get(ctx context.Context, queue string) (Queue, error) {
	response, err := call(ctx, q.calls, func(ctx context.Context, s *stubs) (*pb.GetQueueResponse, error) {
		return s.queues.GetQueue(ctx, &pb.GetQueueRequest{Queue: queue})
	})
	return queueFromProto(response.GetQueue()), err
}

// UpdatePolicy sets the fields of the policy that are not nil, or those named in fields
// ("retry_policy.max_attempts", say). A field named there and nil goes back to the default.
func (q *Queues) UpdatePolicy(ctx context.Context, queue string, policy QueuePolicy, fields ...string) (Queue, error) {
	request := &pb.UpdateQueuePolicyRequest{Queue: queue, Policy: policyToProto(policy)}
	if len(fields) > 0 {
		request.UpdateMask = &fieldmaskpb.FieldMask{Paths: fields}
	}
	response, err := call(ctx, q.calls, func(ctx context.Context, s *stubs) (*pb.UpdateQueuePolicyResponse, error) {
		return s.queues.UpdateQueuePolicy(ctx, request)
	})
	return queueFromProto(response.GetQueue()), err
}

// Pause stops leases from the queue.
func (q *Queues) Pause(ctx context.Context, queue string) (Queue, error) {
	response, err := call(ctx, q.calls, func(ctx context.Context, s *stubs) (*pb.PauseQueueResponse, error) {
		return s.queues.PauseQueue(ctx, &pb.PauseQueueRequest{Queue: queue})
	})
	return queueFromProto(response.GetQueue()), err
}

// Resume allows leases from the queue again.
func (q *Queues) Resume(ctx context.Context, queue string) (Queue, error) {
	response, err := call(ctx, q.calls, func(ctx context.Context, s *stubs) (*pb.ResumeQueueResponse, error) {
		return s.queues.ResumeQueue(ctx, &pb.ResumeQueueRequest{Queue: queue})
	})
	return queueFromProto(response.GetQueue()), err
}

// Depth counts jobs by state, or ErrQueueNotFound.
func (q *Queues) Depth(ctx context.Context, queue string) (Depth, error) {
	response, err := call(ctx, q.calls, func(ctx context.Context, s *stubs) (*pb.GetDepthResponse, error) {
		return s.queues.GetDepth(ctx, &pb.GetDepthRequest{Queue: queue})
	})
	return depthFromProto(response.GetDepth()), err
}

// DeadLetters is what operators do with dead letters: client.DeadLetters.
type DeadLetters struct{ calls *calls }

// DeadLetterFilter chooses dead letters; a zero value chooses all.
type DeadLetterFilter struct {
	// JobIDs names them, at most 10 000, for Redrive and Purge and without the fields below; nil: all that fit those.
	// Names beside another field, and no name in a list that is not nil, are refused. List does not look at it.
	JobIDs     []string
	Kind       string
	Reason     DeadLetterReason
	DiedBefore time.Time
}

func (f DeadLetterFilter) toProto() *pb.DeadLetterFilter {
	return &pb.DeadLetterFilter{
		Kind: f.Kind, Reason: pb.DeadLetterReason(f.Reason), DiedBefore: toTimestamp(f.DiedBefore),
	}
}

// besideIDs is the filter of a request that may name its jobs: nil when that is all it does. One that has both goes
// out so, for the server to refuse: to leave the rest away would take more jobs than were meant.
func (f DeadLetterFilter) besideIDs() *pb.DeadLetterFilter {
	alone := f.Kind == "" && f.Reason == 0 && f.DiedBefore.IsZero()
	if f.JobIDs != nil && (alone || len(f.JobIDs) == 0) {
		return nil
	}
	return f.toProto()
}

// List gives a queue's dead letters, each with its last failure. It ends after the first error.
func (d *DeadLetters) List(ctx context.Context, queue string, filter DeadLetterFilter) iter.Seq2[Job, error] {
	request := &pb.ListDeadLettersRequest{Queue: queue, Filter: filter.toProto()}
	return pages(func() ([]*pb.Job, string, error) {
		response, err := call(ctx, d.calls, func(ctx context.Context, s *stubs) (*pb.ListDeadLettersResponse, error) {
			return s.queues.ListDeadLetters(ctx, request)
		})
		return response.GetJobs(), response.GetNextPageToken(), err
	}, func(token string) { request.PageToken = token }, jobFromProto)
}

// Show reads one dead letter, whole: payload, failures and checkpoint. ErrJobNotFound when it is none.
func (d *DeadLetters) Show(ctx context.Context, queue, jobID string) (Job, error) {
	job, err := getJob(ctx, d.calls, &pb.GetJobRequest{Queue: queue, JobId: jobID})
	if err == nil && job.State != Dead {
		return Job{}, &Error{
			Reason: "JOB_NOT_FOUND", Message: "job " + jobID + " is no dead letter but " + job.State.String(), kind: ErrJobNotFound,
		}
	}
	return job, err
}

// Redrive moves dead letters back to ready: those named, or all that fit. It returns how many, in a dry run how
// many it would be.
func (d *DeadLetters) Redrive(ctx context.Context, queue string, filter DeadLetterFilter, dryRun bool) (int, error) {
	request := &pb.RedriveDeadLettersRequest{Queue: queue, JobIds: filter.JobIDs, Filter: filter.besideIDs(), DryRun: dryRun}
	for moved := 0; ; {
		response, err := call(ctx, d.calls, func(ctx context.Context, s *stubs) (*pb.RedriveDeadLettersResponse, error) {
			return s.queues.RedriveDeadLetters(ctx, request)
		})
		moved += int(response.GetRedriven())
		if err != nil || dryRun || filter.JobIDs != nil || !response.GetMore() {
			return moved, err
		}
	}
}

// Purge deletes dead letters for good: those named, or all that fit. It returns how many, in a dry run how many
// it would be.
func (d *DeadLetters) Purge(ctx context.Context, queue string, filter DeadLetterFilter, dryRun bool) (int, error) {
	request := &pb.PurgeDeadLettersRequest{Queue: queue, JobIds: filter.JobIDs, Filter: filter.besideIDs(), DryRun: dryRun}
	for deleted := 0; ; {
		response, err := call(ctx, d.calls, func(ctx context.Context, s *stubs) (*pb.PurgeDeadLettersResponse, error) {
			return s.queues.PurgeDeadLetters(ctx, request)
		})
		deleted += int(response.GetPurged())
		if err != nil || dryRun || filter.JobIDs != nil || !response.GetMore() {
			return deleted, err
		}
	}
}

// pages walks a listing page by page.
func pages[Message, Item any](
	page func() ([]Message, string, error), goOn func(token string), convert func(Message) Item,
) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		goOn("")
		for {
			found, next, err := page()
			if err != nil {
				var nothing Item
				yield(nothing, err)
				return
			}
			for _, message := range found {
				if !yield(convert(message), nil) {
					return
				}
			}
			if next == "" {
				return
			}
			goOn(next)
		}
	}
}

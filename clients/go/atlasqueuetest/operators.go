package atlasqueuetest

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

type queueService struct {
	pb.UnimplementedQueueServiceServer
	*Server
}

func (s queueService) known(name string) (*pb.Queue, error) {
	if s.queues[name] == nil {
		return nil, refusal(codes.NotFound, "QUEUE_NOT_FOUND", "no such queue: "+name)
	}
	return s.queues[name], nil
}

func (s queueService) ListQueues(context.Context, *pb.ListQueuesRequest) (*pb.ListQueuesResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	response := &pb.ListQueuesResponse{}
	for _, queue := range s.queues {
		response.Queues = append(response.Queues, proto.CloneOf(queue))
	}
	slices.SortFunc(response.Queues, func(a, b *pb.Queue) int { return cmp.Compare(a.GetName(), b.GetName()) })
	return response, nil
}

func (s queueService) GetQueue(_ context.Context, request *pb.GetQueueRequest) (*pb.GetQueueResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	queue, err := s.known(request.GetQueue())
	if err != nil {
		return nil, err
	}
	return &pb.GetQueueResponse{Queue: proto.CloneOf(queue)}, nil
}

// UpdateQueuePolicy merges what is set; the fake does not look at update_mask.
func (s queueService) UpdateQueuePolicy(_ context.Context, request *pb.UpdateQueuePolicyRequest) (*pb.UpdateQueuePolicyResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	queue := s.queue(request.GetQueue())
	proto.Merge(queue.GetPolicy(), request.GetPolicy())
	return &pb.UpdateQueuePolicyResponse{Queue: proto.CloneOf(queue)}, nil
}

func (s queueService) pause(name string, paused bool) *pb.Queue {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	queue := s.queue(name)
	queue.Paused = paused
	s.dispatch()
	return proto.CloneOf(queue)
}

func (s queueService) PauseQueue(_ context.Context, request *pb.PauseQueueRequest) (*pb.PauseQueueResponse, error) {
	return &pb.PauseQueueResponse{Queue: s.pause(request.GetQueue(), true)}, nil
}

func (s queueService) ResumeQueue(_ context.Context, request *pb.ResumeQueueRequest) (*pb.ResumeQueueResponse, error) {
	return &pb.ResumeQueueResponse{Queue: s.pause(request.GetQueue(), false)}, nil
}

func (s queueService) GetDepth(_ context.Context, request *pb.GetDepthRequest) (*pb.GetDepthResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if _, err := s.known(request.GetQueue()); err != nil {
		return nil, err
	}
	counts := map[pb.JobState]int64{}
	for at, each := range s.jobs {
		if at.queue == request.GetQueue() {
			counts[each.GetState()]++
		}
	}
	return &pb.GetDepthResponse{Depth: &pb.Depth{
		Scheduled: counts[pb.JobState_JOB_STATE_SCHEDULED], Ready: counts[pb.JobState_JOB_STATE_READY],
		Leased: counts[pb.JobState_JOB_STATE_LEASED], Dead: counts[pb.JobState_JOB_STATE_DEAD],
		Succeeded: counts[pb.JobState_JOB_STATE_SUCCEEDED], Cancelled: counts[pb.JobState_JOB_STATE_CANCELLED],
	}}, nil
}

func fits(each *job, ids []string, filter *pb.DeadLetterFilter) bool {
	return each.GetState() == pb.JobState_JOB_STATE_DEAD &&
		(len(ids) == 0 || slices.Contains(ids, each.GetJobId())) &&
		(filter.GetKind() == "" || filter.GetKind() == each.GetKind()) &&
		(filter.GetReason() == 0 || filter.GetReason() == each.GetDeadLetterReason()) &&
		(filter.GetDiedBefore() == nil || each.GetDiedAt().AsTime().Before(filter.GetDiedBefore().AsTime()))
}

func (s queueService) ListDeadLetters(_ context.Context, request *pb.ListDeadLettersRequest) (*pb.ListDeadLettersResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if _, err := s.known(request.GetQueue()); err != nil {
		return nil, err
	}
	found := s.bare(request.GetQueue(), func(each *job) bool { return fits(each, nil, request.GetFilter()) })
	for _, shown := range found {
		failures := s.jobs[key{shown.GetQueue(), shown.GetJobId()}].GetFailures()
		shown.Failures = failures[max(0, len(failures)-1):]
	}
	return &pb.ListDeadLettersResponse{Jobs: found}, nil
}

// each does something with every dead letter of a queue that fits, or only counts in a dry run.
func (s queueService) each(queue string, ids []string, filter *pb.DeadLetterFilter, dryRun bool, do func(key, *job)) (int64, error) {
	if (len(ids) > 0) == (filter != nil) {
		return 0, invalid("job_ids", "exactly one of job_ids and filter is required (an empty filter: all)")
	}
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if _, err := s.known(queue); err != nil {
		return 0, err
	}
	count := int64(0)
	for at, each := range s.jobs {
		if at.queue == queue && fits(each, ids, filter) {
			if count++; !dryRun {
				do(at, each)
			}
		}
	}
	s.dispatch()
	return count, nil
}

func (s queueService) RedriveDeadLetters(_ context.Context, request *pb.RedriveDeadLettersRequest) (*pb.RedriveDeadLettersResponse, error) {
	count, err := s.each(request.GetQueue(), request.GetJobIds(), request.GetFilter(), request.GetDryRun(), func(_ key, each *job) {
		each.Attempt, each.Crashes, each.DeadLetterReason, each.DiedAt = 0, 0, 0, nil
		s.ready(each)
	})
	return &pb.RedriveDeadLettersResponse{Redriven: count}, err
}

func (s queueService) PurgeDeadLetters(_ context.Context, request *pb.PurgeDeadLettersRequest) (*pb.PurgeDeadLettersResponse, error) {
	count, err := s.each(request.GetQueue(), request.GetJobIds(), request.GetFilter(), request.GetDryRun(), func(at key, _ *job) {
		delete(s.jobs, at)
	})
	return &pb.PurgeDeadLettersResponse{Purged: count}, err
}

func (s queueService) ListWorkers(context.Context, *pb.ListWorkersRequest) (*pb.ListWorkersResponse, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	response := &pb.ListWorkersResponse{}
	for _, holder := range s.sessions {
		response.Workers = append(response.Workers, &pb.WorkerSession{
			SessionId: holder.id, Worker: holder.terms.GetWorker(), Queues: holder.terms.GetQueues(),
			Slots: holder.terms.GetSlots(), Leased: int32(s.leasedTo(holder.id)), Epoch: holder.epoch,
			Streaming: holder.stream != nil, ServerId: "fake", OpenedAt: timestamppb.New(holder.opened),
			TimeLeft: durationpb.New(time.Second),
		})
	}
	slices.SortFunc(response.Workers, func(a, b *pb.WorkerSession) int { return cmp.Compare(b.GetSessionId(), a.GetSessionId()) })
	return response, nil
}

func (s queueService) GetCluster(context.Context, *pb.GetClusterRequest) (*pb.GetClusterResponse, error) {
	server := &pb.Server{ServerId: "fake", Address: s.Address, Version: "fake", Leader: true}
	return &pb.GetClusterResponse{Servers: []*pb.Server{server}, Leader: "fake", Term: 1}, nil
}

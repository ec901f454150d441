package worker

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/transport"
)

const (
	outcomesMax     = 1000
	reportBytesMax  = 3 << 20
	reportTimeout   = 10 * time.Second
	outcomeRefused  = "OutcomeRefused"
	reportWaitFirst = 50 * time.Millisecond
	reportWaitMax   = 2 * time.Second
)

// reporter sends outcomes in batches, until they are answered. One call is out at a time; what gathers meanwhile
// goes with the next one. A job is held until its report is answered, so a lost answer is repeated and found
// ALREADY_APPLIED.
type reporter struct {
	servers  servers
	session  *session
	held     *held
	log      *slog.Logger
	onAnswer func(*pb.JobOutcome, *pb.ReportResult)

	mutex   sync.Mutex
	pending []*pb.JobOutcome
	sending bool
	arrived chan struct{}
	emptied chan struct{}
}

func (r *reporter) report(outcome *pb.JobOutcome) {
	r.mutex.Lock()
	r.pending = append(r.pending, outcome)
	first := len(r.pending) == 1
	r.mutex.Unlock()
	if first {
		select {
		case r.arrived <- struct{}{}:
		default:
		}
	}
}

// run sends for as long as the worker lives.
func (r *reporter) run(ctx context.Context) {
	defer r.servers.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.arrived:
		}
		for outcomes := r.take(); outcomes != nil; outcomes = r.take() {
			if r.send(ctx, outcomes); ctx.Err() != nil {
				return
			}
		}
	}
}

// take what one message carries; nil when nothing is left.
func (r *reporter) take() []*pb.JobOutcome {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	size, count := 0, 0
	for count < min(len(r.pending), outcomesMax) {
		size += proto.Size(r.pending[count]) + 8
		if count > 0 && size > reportBytesMax {
			break
		}
		count++
	}
	taken := r.pending[:count:count]
	r.pending = r.pending[count:]
	if r.sending = count > 0; !r.sending {
		select {
		case r.emptied <- struct{}{}:
		default:
		}
		return nil
	}
	return taken
}

// flush returns when everything handed in was answered, or the context has ended; whether all was.
func (r *reporter) flush(ctx context.Context) bool {
	for {
		r.mutex.Lock()
		empty := len(r.pending) == 0 && !r.sending
		r.mutex.Unlock()
		if empty {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-r.emptied:
		}
	}
}

func (r *reporter) send(ctx context.Context, outcomes []*pb.JobOutcome) {
	backoff := transport.Backoff{First: reportWaitFirst, Longest: reportWaitMax}
	for ctx.Err() == nil {
		response, err := r.call(ctx, outcomes)
		switch {
		case err == nil:
			r.held.remove(outcomes)
			for i, outcome := range outcomes {
				r.onAnswer(outcome, response.GetResults()[i])
			}
			return
		case ctx.Err() != nil:
			return
		case !errors.Is(err, atlasqueue.ErrUnavailable) && !errors.Is(err, atlasqueue.ErrDeadlineExceeded):
			r.refused(ctx, outcomes, err)
			return
		}
		r.log.Warn("report_waits", "outcomes", len(outcomes), "error", err)
		there := errors.Is(err, atlasqueue.ErrDatabaseUnavailable) || errors.Is(err, atlasqueue.ErrOverloaded)
		if len(r.servers.addresses) > 1 || !there {
			r.servers.next()
		}
		transport.Sleep(ctx, backoff.Next())
	}
}

func (r *reporter) call(ctx context.Context, outcomes []*pb.JobOutcome) (*pb.ReportResponse, error) {
	client, err := r.servers.client()
	if err != nil {
		return nil, err
	}
	id, _ := r.session.named()
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	response, err := client.Report(ctx, &pb.ReportRequest{SessionId: id, Outcomes: outcomes})
	if err != nil {
		return nil, atlasqueue.FromRPC(err)
	}
	if len(response.GetResults()) != len(outcomes) {
		return nil, errors.New("the server answered another number of results than it was sent outcomes")
	}
	return response, nil
}

// refused: one bad outcome takes no other with it. Halves are sent again, and a single one as a failure.
func (r *reporter) refused(ctx context.Context, outcomes []*pb.JobOutcome, failure error) {
	r.log.Error("report_refused", "outcomes", len(outcomes), "error", failure)
	mendable := errors.Is(failure, atlasqueue.ErrInvalidField) || errors.Is(failure, atlasqueue.ErrMessageTooLarge)
	outcome := outcomes[0]
	switch {
	case !mendable:
		// A bug of the server: what is not held any more is given back by the next heartbeat.
		r.held.remove(outcomes)
	case len(outcomes) > 1:
		r.send(ctx, outcomes[:len(outcomes)/2])
		r.send(ctx, outcomes[len(outcomes)/2:])
	case outcome.GetFail().GetError().GetType() != outcomeRefused:
		text := cutText(failure.Error(), errorMessageBytesMax)
		outcome.Outcome = &pb.JobOutcome_Fail{Fail: &pb.Fail{Error: &pb.JobError{Type: outcomeRefused, Message: text}}}
		r.send(ctx, outcomes)
	default:
		r.held.remove(outcomes)
	}
}

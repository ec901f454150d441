package worker

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	atlasqueue "github.com/atlasqueue/atlasqueue/clients/go"
	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
	"github.com/atlasqueue/atlasqueue/clients/go/internal/transport"
)

const (
	outcomesMax = 1000
	callsMax    = 3
	// A quarter of the slots, within these bounds, is worth a call of its own beside those that are out: fewer would
	// cost more calls than they gain, and with more than that the slots of a small worker wait for one call.
	besideMin = 64
	besideMax = 250
	// How long outcomes gather while other jobs run, and how often is looked whether they still do.
	gatherMax       = 2 * time.Millisecond
	gatherTurn      = 200 * time.Microsecond
	reportBytesMax  = 3 << 20
	reportTimeout   = 10 * time.Second
	outcomeRefused  = "OutcomeRefused"
	reportWaitFirst = 50 * time.Millisecond
	reportWaitMax   = 2 * time.Second
	// After so long a server that was older than columns may be another one, or have been upgraded.
	olderFor = time.Minute
)

// reporter sends outcomes in batches, until they are answered. What gathers while a call is out goes with the next
// one; only when that is a large batch already does another call go out beside it, so that a busy worker never
// waits for a commit. A job is held until its report is answered, so a lost answer is repeated and found
// ALREADY_APPLIED.
type reporter struct {
	servers  servers
	session  *session
	held     *held
	log      *slog.Logger
	onAnswer func(*pb.JobOutcome, *pb.ReportResult)
	// How many handlers run.
	running func() int64
	// How many outcomes are worth a call of their own beside those that are out.
	worth int

	mutex    sync.Mutex
	pending  []*pb.JobOutcome
	callsOut int
	// So long outcomes go one by one.
	olderUntil time.Time
	changed    chan struct{}
	emptied    chan struct{}
}

func (r *reporter) report(outcome *pb.JobOutcome) {
	r.mutex.Lock()
	r.pending = append(r.pending, outcome)
	enough := len(r.pending) == 1 || len(r.pending) == r.worth
	r.mutex.Unlock()
	if enough {
		signal(r.changed)
	}
}

// run sends for as long as the worker lives.
func (r *reporter) run(ctx context.Context) {
	defer r.servers.close()
	var calls sync.WaitGroup
	defer calls.Wait()
	for {
		if r.worthACall() {
			outcomes := r.gathered(ctx)
			calls.Go(func() {
				r.send(ctx, outcomes)
				r.answered()
			})
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-r.changed:
		}
	}
}

func (r *reporter) worthACall() bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	least := 1
	if r.callsOut > 0 {
		least = r.worth
	}
	return len(r.pending) >= least && r.callsOut < callsMax
}

// gathered waits a moment for jobs that run: the first of a batch of short ones would otherwise be reported alone.
func (r *reporter) gathered(ctx context.Context) []*pb.JobOutcome {
	for until := time.Now().Add(gatherMax); r.running() > 0 && time.Now().Before(until); {
		transport.Sleep(ctx, gatherTurn)
	}
	return r.take()
}

// take what one message carries.
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
	r.callsOut++
	return taken
}

func (r *reporter) answered() {
	r.mutex.Lock()
	r.callsOut--
	empty := r.callsOut == 0 && len(r.pending) == 0
	r.mutex.Unlock()
	signal(r.changed)
	if empty {
		signal(r.emptied)
	}
}

func signal(channel chan<- struct{}) {
	select {
	case channel <- struct{}{}:
	default:
	}
}

// flush returns when everything handed in was answered, or the context has ended; whether all was.
func (r *reporter) flush(ctx context.Context) bool {
	for {
		r.mutex.Lock()
		empty := len(r.pending) == 0 && r.callsOut == 0
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

// send these until they are answered.
func (r *reporter) send(ctx context.Context, outcomes []*pb.JobOutcome) {
	if r.serverIsOlder() {
		r.sendSorted(ctx, outcomes, nil)
		return
	}
	alone, columns := inColumns(outcomes)
	r.sendSorted(ctx, alone, columns)
}

// sendSorted sends outcomes one by one, and others in columns.
func (r *reporter) sendSorted(ctx context.Context, alone []*pb.JobOutcome, columns []*column) {
	backoff := transport.Backoff{First: reportWaitFirst, Longest: reportWaitMax}
	for ctx.Err() == nil {
		response, used, err := r.call(ctx, alone, columns)
		switch {
		case err == nil:
			r.settle(ctx, alone, columns, response)
			return
		case ctx.Err() != nil:
			return
		case len(columns) > 0 && errors.Is(err, atlasqueue.ErrInvalidField):
			// One of them may be refused, or the server be older than columns: one by one it says which.
			if len(alone) == 0 {
				r.noteOlder(err)
			}
			r.sendSorted(ctx, slices.Concat(alone, outcomesOf(columns)), nil)
			return
		case !errors.Is(err, atlasqueue.ErrUnavailable) && !errors.Is(err, atlasqueue.ErrDeadlineExceeded):
			r.refused(ctx, slices.Concat(alone, outcomesOf(columns)), err)
			return
		}
		r.log.Warn("report_waits", "outcomes", len(alone)+len(outcomesOf(columns)), "error", err)
		there := errors.Is(err, atlasqueue.ErrDatabaseUnavailable) || errors.Is(err, atlasqueue.ErrOverloaded)
		if len(r.servers.addresses) > 1 || !there {
			r.servers.leave(used)
		}
		transport.Sleep(ctx, backoff.Next())
	}
}

// settle what an answer says.
func (r *reporter) settle(ctx context.Context, alone []*pb.JobOutcome, columns []*column, response *pb.ReportResponse) {
	r.held.remove(alone)
	for i, outcome := range alone {
		r.onAnswer(outcome, response.GetResults()[i])
	}
	if len(response.GetCompleted()) < len(columns) {
		r.noteOlder(errors.New("the answer says nothing of them"))
		r.sendSorted(ctx, outcomesOf(columns), nil)
		return
	}
	for i, each := range columns {
		r.held.remove(each.outcomes)
		each.settle(response.GetCompleted()[i], r.onAnswer)
	}
}

// noteOlder: a server that is older than columns has stored none of them. Asked in columns again, it would cost two
// calls instead of one each time.
func (r *reporter) noteOlder(cause error) {
	r.log.Warn("columns_not_taken", "error", cause)
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.olderUntil = time.Now().Add(olderFor)
}

func (r *reporter) serverIsOlder() bool {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	return time.Now().Before(r.olderUntil)
}

// call gives the connection that was used as well, since that may have to be left.
func (r *reporter) call(ctx context.Context, alone []*pb.JobOutcome, columns []*column) (*pb.ReportResponse, *link, error) {
	used, err := r.servers.borrow()
	if err != nil {
		return nil, nil, err
	}
	defer r.servers.giveBack(used)
	id, _ := r.session.named()
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	request := &pb.ReportRequest{SessionId: id, Outcomes: alone}
	for _, each := range columns {
		request.Completed = append(request.Completed, each.completed)
	}
	response, err := pb.NewWorkerServiceClient(used.conn).Report(ctx, request)
	if err != nil {
		return nil, used, atlasqueue.FromRPC(err)
	}
	if len(response.GetResults()) != len(alone) {
		return nil, used, errors.New("the server answered another number of results than it was sent outcomes")
	}
	return response, used, nil
}

// refused: one bad outcome takes no other with it. Halves are sent again, one by one, and a single one as a failure.
func (r *reporter) refused(ctx context.Context, outcomes []*pb.JobOutcome, failure error) {
	r.log.Error("report_refused", "outcomes", len(outcomes), "error", failure)
	mendable := errors.Is(failure, atlasqueue.ErrInvalidField) || errors.Is(failure, atlasqueue.ErrMessageTooLarge)
	outcome := outcomes[0]
	switch {
	case !mendable:
		// A bug of the server: what is not held any more is given back by the next heartbeat.
		r.held.remove(outcomes)
	case len(outcomes) > 1:
		r.sendSorted(ctx, outcomes[:len(outcomes)/2], nil)
		r.sendSorted(ctx, outcomes[len(outcomes)/2:], nil)
	case outcome.GetFail().GetError().GetType() != outcomeRefused:
		text := cutText(failure.Error(), errorMessageBytesMax)
		outcome.Outcome = &pb.JobOutcome_Fail{Fail: &pb.Fail{Error: &pb.JobError{Type: outcomeRefused, Message: text}}}
		r.sendSorted(ctx, outcomes, nil)
	default:
		r.held.remove(outcomes)
	}
}

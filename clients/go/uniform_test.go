package atlasqueue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

const nilID = "00000000-0000-0000-0000-000000000000"

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// judge stands in for the server. A payload begins with the job's position; it refuses every 13th job, and each
// of kind "bad".
type judge struct {
	*testing.T
	// The jobs of each message, by position, as they were sent.
	messages []map[int]*pb.NewJob
}

func (j *judge) invoke(_ context.Context, _ string, request, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, _ ...grpc.CallOption) error {
	asked, response := request.(*pb.EnqueueBatchRequest), reply.(*pb.EnqueueBatchResponse)
	got := map[int]*pb.NewJob{}
	var order []int
	for _, job := range asked.GetJobs() {
		at := j.note(got, job)
		order = append(order, at)
		result := &pb.EnqueueResult{JobId: strings.ToLower(job.GetJobId())}
		if refuses(at, job.GetKind()) {
			result.Error = status.Newf(codes.InvalidArgument, "no %d", at).Proto()
		}
		response.Results = append(response.Results, result)
	}
	if !slices.IsSorted(order) {
		j.Errorf("%v go one by one", order)
	}
	for _, group := range asked.GetUniform() {
		response.Uniform = append(response.Uniform, j.judgeGroup(got, group))
	}
	if size := proto.Size(asked); len(got) > batchItems || (len(got) > 1 && size > batchBytes) {
		j.Errorf("a message of %d jobs and %d bytes", len(got), size)
	}
	j.messages = append(j.messages, got)
	j.likes(asked)
	return nil
}

func refuses(at int, kind string) bool { return at%13 == 0 || kind == "bad" }

func (j *judge) note(got map[int]*pb.NewJob, job *pb.NewJob) int {
	number, _, _ := strings.Cut(string(job.GetPayload()), " ")
	at, err := strconv.Atoi(number)
	if err != nil || got[at] != nil {
		j.Errorf("job %d came twice, or not with its payload: %v", at, err)
	}
	got[at] = proto.CloneOf(job)
	return at
}

func (j *judge) judgeGroup(got map[int]*pb.NewJob, group *pb.UniformJobs) *pb.UniformResult {
	result := &pb.UniformResult{}
	ids, payloads, shared := group.GetJobIds(), group.GetPayloads(), group.GetShared()
	if len(payloads) < uniformMin || len(ids) != 16*len(payloads) || shared.GetJobId() != "" || shared.GetPayload() != nil {
		j.Errorf("%d bytes of ids and %d payloads of %v", len(ids), len(payloads), shared)
	}
	if shared.GetKind() == "bad" {
		result.Error = status.New(codes.InvalidArgument, "all bad").Proto()
	}
	for i, payload := range payloads {
		job := proto.CloneOf(shared)
		id := ids[16*i : 16*i+16]
		job.Payload, job.JobId = payload, fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
		if at := j.note(got, job); result.Error == nil && refuses(at, "") {
			refusal := &pb.UniformRefusal{Index: int32(i), Error: status.Newf(codes.InvalidArgument, "no %d", at).Proto()}
			result.Refused = append(result.Refused, refusal)
		}
	}
	return result
}

// likes checks that no more go one by one than have to.
func (j *judge) likes(asked *pb.EnqueueBatchRequest) {
	times, groups := map[string]int{}, map[string]int{}
	for _, job := range asked.GetJobs() {
		times[strings.ToLower(job.GetJobId())]++
	}
	for _, job := range asked.GetJobs() {
		if id := strings.ToLower(job.GetJobId()); uuidForm.MatchString(id) && id != nilID && times[id] == 1 {
			bare := proto.CloneOf(job)
			bare.JobId, bare.Payload = "", nil
			groups[prototext.MarshalOptions{}.Format(bare)]++
		}
	}
	for bare, count := range groups {
		if count >= uniformMin {
			j.Errorf("%d like %s go one by one", count, bare)
		}
	}
}

// looks are jobs that differ from each other in one field, or in what stands beside a field.
func looks() []NewJob {
	at := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	return []NewJob{
		{}, {Queue: "other"}, {Kind: "bad"}, {Kind: "other"}, {Priority: 1}, {RunAt: at}, {RunAt: at.Add(1)}, {RunAt: at.Add(time.Second)},
		{Deadline: 1}, {RetryPolicy: &RetryPolicy{}}, {RetryPolicy: &RetryPolicy{MaxAttempts: new(int32(0))}},
		{RetryPolicy: &RetryPolicy{MaxAttempts: new(int32(1))}}, {RetryPolicy: &RetryPolicy{InitialBackoff: new(time.Second)}},
		{RetryPolicy: &RetryPolicy{MaxBackoff: new(time.Second)}}, {RetryPolicy: &RetryPolicy{Multiplier: new(2.0)}},
		{RetryPolicy: &RetryPolicy{Multiplier: new(math.NaN())}}, {Headers: map[string]string{"a": "b"}},
		{Headers: map[string]string{"b": "a"}}, {Headers: map[string]string{"a": "b", "b": "a"}}, {Headers: map[string]string{"a": "a", "b": "b"}},
	}
}

// randomJobs have payloads that begin with their position, and whatever ids there are.
func randomJobs(random *rand.Rand) []NewJob {
	jobs := make([]NewJob, random.IntN(3*batchItems))
	// From all alike to a few of each in a message.
	of := looks()
	random.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
	of = of[:1+random.IntN(len(of))]
	rare, large := random.IntN(100), random.IntN(10) == 0
	for i := range jobs {
		jobs[i] = of[random.IntN(len(of))]
		// Equal, not the same.
		jobs[i].Queue, jobs[i].Headers = strings.Clone(jobs[i].Queue), maps.Clone(jobs[i].Headers)
		jobs[i].Payload = fmt.Appendf(nil, "%d ", i)
		if large {
			jobs[i].Payload = append(jobs[i].Payload, make([]byte, random.IntN(20_000))...)
		}
		jobs[i].JobID = randomID(random, rare, jobs[:i])
	}
	return jobs
}

func randomID(random *rand.Rand, rare int, before []NewJob) string {
	switch choice := random.IntN(100 + rare); {
	case choice < 80:
		return ""
	case choice < 90:
		return strings.ToUpper(NewJobID())
	case choice < 100:
		return NewJobID()
	case choice < 120:
		return nilID
	case choice < 140:
		return "an id"
	case choice < 160:
		return strings.Replace(NewJobID(), "-", "a", 1)
	case choice < 170:
		return NewJobID()[:35] + "g"
	case len(before) > 0:
		return strings.ToUpper(before[random.IntN(len(before))].JobID)
	}
	return ""
}

func TestWhatIsSentIsWhatWasAskedForEachOnce(t *testing.T) {
	for seed := range uint64(15) {
		server := &judge{T: t}
		client, err := NewClient(WithDialOptions(grpc.WithUnaryInterceptor(server.invoke)))
		if err != nil {
			t.Fatal(err)
		}
		jobs := randomJobs(rand.New(rand.NewPCG(seed, 0)))
		before := slices.Clone(jobs)
		ids, err := client.EnqueueBatch(t.Context(), jobs)
		sent := map[int]*pb.NewJob{}
		for _, message := range server.messages {
			for at := range len(message) {
				sent[len(sent)] = message[len(sent)]
				if sent[len(sent)-1] == nil {
					t.Fatalf("seed %d: job %d of a message is not the next one", seed, at)
				}
			}
		}
		if len(ids) != len(jobs) || len(sent) != len(jobs) {
			t.Fatalf("seed %d: %d jobs sent and %d ids of %d", seed, len(sent), len(ids), len(jobs))
		}
		for at, job := range before {
			checkSent(t, job, sent[at], ids[at])
			if jobs[at].JobID != job.JobID {
				t.Errorf("the caller's job %d has an id now", at)
			}
		}
		checkRefused(t, before, err)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func checkSent(t *testing.T, job NewJob, sent *pb.NewJob, id string) {
	t.Helper()
	want := newJobToProto(job)
	if job.JobID == "" {
		want.JobId = id
	}
	// In the uniform form all ids are in lower case.
	if strings.EqualFold(sent.GetJobId(), want.GetJobId()) {
		want.JobId = sent.GetJobId()
	}
	if !proto.Equal(want, sent) {
		t.Errorf("sent %v instead of %v", sent, want)
	}
	if id != strings.ToLower(sent.GetJobId()) || id == "" {
		t.Errorf("%q was returned for %q", id, sent.GetJobId())
	}
}

func checkRefused(t *testing.T, jobs []NewJob, err error) {
	t.Helper()
	refused := &EnqueueBatchError{}
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	for at, job := range jobs {
		switch got := refused.Errors[at]; {
		case (got != nil) != refuses(at, job.Kind):
			t.Errorf("job %d: got %v", at, got)
		case got != nil && !strings.HasSuffix(got.Error(), fmt.Sprintf(": no %d", at)) && (job.Kind != "bad" || !strings.HasSuffix(got.Error(), ": all bad")):
			t.Errorf("job %d was told %v", at, got)
		}
	}
}

// Nobody can make two such headers, so one hash for all stands in for them.
func TestHeadersThatOnlyHaveTheirHashInCommonAreNotShared(t *testing.T) {
	jobs := []NewJob{{Headers: map[string]string{"a": "b"}}, {Headers: map[string]string{"c": "d"}}, {Headers: map[string]string{"a": "b"}}}
	grouped := grouping{jobs: jobs, known: map[common]int{}}
	grouped.add(0)
	grouped.last.headers, grouped.known[commonOf(&jobs[1])] = hashOf(jobs[1].Headers), 0
	if grouped.add(1) || !grouped.add(2) || !slices.Equal(grouped.groups[0], []int{0, 2}) {
		t.Errorf("grouped %v", grouped.groups)
	}
}

// More are made than the clock has ticks for.
func TestIDsMadeAtOnceHaveTheirTimesToThemselves(t *testing.T) {
	const count = 1 << 16
	if first, next := nextStamps(count), nextStamps(1); next < first+count {
		t.Errorf("%d came after %d of %d", next, count, first)
	}
}

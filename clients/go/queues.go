package atlasqueue

import (
	"time"

	pb "github.com/atlasqueue/atlasqueue/clients/go/gen/atlasqueue/v1"
)

// QueuePolicy tells how a queue treats its jobs; what is nil has the default.
type QueuePolicy struct {
	RetryPolicy *RetryPolicy
	// VisibilityTimeout is how long a worker's session lives without a heartbeat, 1 s to 12 h.
	VisibilityTimeout *time.Duration
}

// Queue is a queue.
type Queue struct {
	Name      string
	Paused    bool
	Policy    QueuePolicy
	CreatedAt time.Time
}

// Depth counts the jobs of a queue by state.
type Depth struct {
	Scheduled, Ready, Leased, Dead, Succeeded, Cancelled int64
}

// WorkerSession is a worker as the server knows it.
type WorkerSession struct {
	SessionID int64
	Worker    string
	Queues    []string
	Slots     int
	Leased    int
	Streaming bool
	ServerID  string
	OpenedAt  time.Time
	TimeLeft  time.Duration
}

// Server is a server process.
type Server struct {
	ServerID  string
	Address   string
	Version   string
	StartedAt time.Time
	Leader    bool
}

// Cluster is the servers that live, and the leader (empty while there is none).
type Cluster struct {
	Servers []Server
	Leader  string
	Term    int64
}

func policyToProto(policy QueuePolicy) *pb.QueuePolicy {
	return &pb.QueuePolicy{
		RetryPolicy:       retryPolicyToProto(policy.RetryPolicy),
		VisibilityTimeout: toDuration(policy.VisibilityTimeout),
	}
}

func queueFromProto(message *pb.Queue) Queue {
	return Queue{
		Name:   message.GetName(),
		Paused: message.GetPaused(),
		Policy: QueuePolicy{
			RetryPolicy:       retryPolicyFromProto(message.GetPolicy().GetRetryPolicy()),
			VisibilityTimeout: fromDuration(message.GetPolicy().GetVisibilityTimeout()),
		},
		CreatedAt: fromTimestamp(message.GetCreatedAt()),
	}
}

func depthFromProto(message *pb.Depth) Depth {
	return Depth{
		Scheduled: message.GetScheduled(),
		Ready:     message.GetReady(),
		Leased:    message.GetLeased(),
		Dead:      message.GetDead(),
		Succeeded: message.GetSucceeded(),
		Cancelled: message.GetCancelled(),
	}
}

func workerFromProto(message *pb.WorkerSession) WorkerSession {
	return WorkerSession{
		SessionID: message.GetSessionId(),
		Worker:    message.GetWorker(),
		Queues:    message.GetQueues(),
		Slots:     int(message.GetSlots()),
		Leased:    int(message.GetLeased()),
		Streaming: message.GetStreaming(),
		ServerID:  message.GetServerId(),
		OpenedAt:  fromTimestamp(message.GetOpenedAt()),
		TimeLeft:  message.GetTimeLeft().AsDuration(),
	}
}

func clusterFromProto(message *pb.GetClusterResponse) Cluster {
	cluster := Cluster{Leader: message.GetLeader(), Term: message.GetTerm()}
	for _, server := range message.GetServers() {
		cluster.Servers = append(cluster.Servers, Server{
			ServerID:  server.GetServerId(),
			Address:   server.GetAddress(),
			Version:   server.GetVersion(),
			StartedAt: fromTimestamp(server.GetStartedAt()),
			Leader:    server.GetLeader(),
		})
	}
	return cluster
}

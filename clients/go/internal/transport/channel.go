// Package transport holds what client and worker share below the contract: addresses, connections, backoff.
package transport

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const (
	defaultAddress  = "127.0.0.1:7420"
	addressVariable = "ATLASQUEUE_ADDRESS"
	receiveBytesMax = 16 << 20
)

// ParseAddresses gives host:port of each server: as given (several may stand in one, with commas), else from
// ATLASQUEUE_ADDRESS, else 127.0.0.1:7420.
func ParseAddresses(given ...string) ([]string, error) {
	if len(given) == 0 {
		given = []string{os.Getenv(addressVariable)}
		if given[0] == "" {
			given[0] = defaultAddress
		}
	}
	var addresses []string
	for _, listed := range given {
		for address := range strings.SplitSeq(listed, ",") {
			if address = strings.TrimSpace(address); address != "" {
				addresses = append(addresses, address)
			}
		}
	}
	if len(addresses) == 0 {
		return nil, fmt.Errorf("atlasqueue: no server address: give host:port, or several with commas between them")
	}
	for _, address := range addresses {
		host, port, err := net.SplitHostPort(address)
		number, bad := strconv.Atoi(port)
		if err != nil || host == "" || bad != nil || number < 1 || number > 65535 {
			return nil, fmt.Errorf("atlasqueue: %q is no server address: it must be host:port", address)
		}
	}
	return addresses, nil
}

// Open makes a connection, which connects when it is used. A nil config means plain text.
func Open(address string, config *tls.Config, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	security := insecure.NewCredentials()
	if config != nil {
		security = credentials.NewTLS(config)
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(security),
		// A peer that is gone without a word is noticed within 14 s, on an idle stream too.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 10 * time.Second, Timeout: 4 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(receiveBytesMax)),
		// An address is one server; a proxy of the environment is meant for the web.
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		// Messages come in megabytes: a wide window from the start, not one that must grow first.
		grpc.WithInitialWindowSize(4 << 20),
		grpc.WithInitialConnWindowSize(8 << 20),
		grpc.WithChainUnaryInterceptor(encodableUnary),
		grpc.WithChainStreamInterceptor(encodableStream),
	}
	conn, err := grpc.NewClient("passthrough:///"+address, append(options, more...)...)
	if err != nil {
		return nil, fmt.Errorf("atlasqueue: open %s: %w", address, err)
	}
	return conn, nil
}

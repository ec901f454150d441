package transport

import (
	"context"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
)

// A message with a string that is not UTF-8 cannot be encoded, and never leaves the process. gRPC says INTERNAL then,
// as it does of a connection that breaks, and the call would be repeated. Here it becomes what a server says of such
// a message.

func encodableUnary(
	ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	return encodable(request, invoke(ctx, method, request, reply, conn, options...))
}

func encodableStream(
	ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn, method string, streamer grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := streamer(ctx, description, conn, method, options...)
	if err != nil {
		return nil, err
	}
	return encodableMessages{stream}, nil
}

type encodableMessages struct{ grpc.ClientStream }

func (s encodableMessages) SendMsg(message any) error {
	return encodable(message, s.ClientStream.SendMsg(message))
}

// encodable is the error of a call that sent the message.
func encodable(message any, err error) error {
	if status.Code(err) != codes.Internal {
		return err
	}
	request, ok := message.(proto.Message)
	if !ok {
		return err
	}
	_, broken := proto.Marshal(request)
	if broken == nil {
		return err
	}
	refused, failed := status.New(codes.InvalidArgument, "the message cannot be sent: "+broken.Error()).WithDetails(
		&errdetails.ErrorInfo{Reason: "MALFORMED_MESSAGE", Domain: "atlasqueue"})
	if failed != nil {
		return err
	}
	return refused.Err()
}

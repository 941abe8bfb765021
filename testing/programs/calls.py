"""gRPC without generated code. `calls.py serve PORT` serves; `calls.py call PORT` calls and prints what came back."""

import sys
from concurrent import futures

import grpc


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method == "/test/Reverse":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: request[::-1])
        if call.method == "/test/Count":
            return grpc.unary_stream_rpc_method_handler(
                lambda request, context: (b"%d" % n for n in range(int(request)))
            )
        return None


what, address = sys.argv[1], "127.0.0.1:" + sys.argv[2]
if what == "serve":
    server = grpc.server(futures.ThreadPoolExecutor(4), handlers=[Handler()])
    assert server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()
with grpc.insecure_channel(address) as channel:
    reverse = channel.unary_unary("/test/Reverse")
    for length in (0, 1, 1000, 1_000_000):
        sent = bytes(n * 7 % 251 for n in range(length))
        print(length, reverse(sent, timeout=60) == sent[::-1])
    print([text.decode() for text in channel.unary_stream("/test/Count")(b"5", timeout=60)])
    try:
        channel.unary_unary("/test/Nothing")(b"", timeout=60)
    except grpc.RpcError as error:
        print(error.code())

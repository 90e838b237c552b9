"""The gRPC service that clients reach through Weft: echo, health and reflection, by grpcio.

usage: grpc_echo.py PORT. The schema is built here, so that nothing need be generated.
"""

import sys
import threading
import time
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

METHODS = {  # name: whether the client streams, whether the server streams
    "Unary": (False, False),
    "Down": (False, True),
    "Up": (True, False),
    "Both": (True, True),
    "Fail": (False, False),
    "Wait": (False, False),
    "Left": (False, False),
}
SERVICE = "weft.suite.Echo"


def schema():
    file = descriptor_pb2.FileDescriptorProto(
        name="weft/suite.proto", package="weft.suite", syntax="proto3"
    )
    message = file.message_type.add(name="Note")
    kinds = descriptor_pb2.FieldDescriptorProto
    for number, (name, kind) in enumerate(
        [("text", kinds.TYPE_STRING), ("n", kinds.TYPE_INT32), ("data", kinds.TYPE_BYTES)], 1
    ):
        message.field.add(
            name=name, number=number, type=kind, label=kinds.LABEL_OPTIONAL, json_name=name
        )
    service = file.service.add(name="Echo")
    for name, (up, down) in METHODS.items():
        service.method.add(
            name=name,
            input_type=".weft.suite.Note",
            output_type=".weft.suite.Note",
            client_streaming=up,
            server_streaming=down,
        )
    pool = descriptor_pool.Default()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("weft.suite.Note"))


Note = schema()
left = threading.Semaphore(0)  # one for each call that its client gave up


def unary(note, context):
    given = dict(context.invocation_metadata())
    remaining = context.time_remaining()
    context.send_initial_metadata(
        [
            ("x-begin", given.get("x-begin", "-")),
            ("x-remaining", "-" if remaining is None or remaining > 1e6 else f"{remaining:.3f}"),
        ]
    )
    context.set_trailing_metadata([("x-end", given.get("x-end", "-")), ("x-raw-bin", b"\x00\xff\x80")])
    return note


def down(note, _context):
    for n in range(note.n):
        yield Note(n=n, data=note.data)


def up(notes, _context):
    return Note(n=sum(note.n for note in notes))


def both(notes, _context):
    yield from notes


def fail(note, context):
    context.set_trailing_metadata([("x-why", "because")])
    context.abort(next(code for code in grpc.StatusCode if code.value[0] == note.n), note.text)


def wait(note, context):
    given_up = threading.Event()
    context.add_callback(given_up.set)
    if given_up.wait(note.n):
        left.release()
    return note


def gone(_note, _context):
    return Note(n=int(left.acquire(timeout=5)))


def handlers():
    kinds = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    bodies = {
        "Unary": unary,
        "Down": down,
        "Up": up,
        "Both": both,
        "Fail": fail,
        "Wait": wait,
        "Left": gone,
    }
    return {
        name: kinds[METHODS[name]](body, Note.FromString, Note.SerializeToString)
        for name, body in bodies.items()
    }


def serve(port):
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc
    from grpc_reflection.v1alpha import reflection

    server = grpc.server(
        futures.ThreadPoolExecutor(32),
        options=[("grpc.max_receive_message_length", 64 << 20), ("grpc.so_reuseport", 0)],
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers()),))
    well = health.HealthServicer()
    well.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(well, server)
    reflection.enable_server_reflection((SERVICE, reflection.SERVICE_NAME), server)
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    serve(int(sys.argv[1]))

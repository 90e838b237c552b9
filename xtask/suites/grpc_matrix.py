"""gRPC clients through Weft: grpcio (the C core), grpcurl (grpc-go), and gRPC-Web by hand.

usage: grpc_matrix.py HOST:PORT, where Weft stands before `grpc_echo.py`; the last line is `PASSED n/m`.
"""

import base64
import os
import pathlib
import queue
import struct
import subprocess
import sys
import time
import urllib.request

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from grpc_echo import METHODS, SERVICE, Note

WEB = sys.argv[1]
channel = grpc.insecure_channel(WEB, options=[("grpc.max_receive_message_length", 64 << 20)])
KINDS = {
    (False, False): channel.unary_unary,
    (False, True): channel.unary_stream,
    (True, False): channel.stream_unary,
    (True, True): channel.stream_stream,
}
echo = {
    name: KINDS[kind](f"/{SERVICE}/{name}", Note.SerializeToString, Note.FromString)
    for name, kind in METHODS.items()
}
cases = []


def case(run):
    cases.append(run)
    return run


def refused(call):
    """The error of a call that must be refused."""
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


# Before all others, so that nothing is warm.
@case
def two_hundred_calls_at_once_of_a_cold_start():
    calls = [echo["Unary"].future(Note(n=n), timeout=15) for n in range(200)]
    assert [call.result().n for call in calls] == list(range(200))


@case
def metadata_passes_both_ways():
    given = [("x-begin", "one"), ("x-end", "two")]
    note, call = echo["Unary"].with_call(Note(text="déjà ☃"), metadata=given, timeout=5)
    assert note.text == "déjà ☃"
    assert dict(call.initial_metadata())["x-begin"] == "one"
    trailing = dict(call.trailing_metadata())
    assert (trailing["x-end"], trailing["x-raw-bin"]) == ("two", b"\x00\xff\x80"), trailing


@case
def an_empty_message():
    assert echo["Unary"](Note(), timeout=5) == Note()


@case
def four_mebibytes_both_ways():
    data = os.urandom(4 << 20)
    assert echo["Unary"](Note(data=data), timeout=30).data == data


@case
def a_thousand_messages_down():
    notes = echo["Down"](Note(n=1000, data=b"x" * 100), timeout=30)
    assert [note.n for note in notes] == list(range(1000))


@case
def a_thousand_messages_up():
    assert echo["Up"]((Note(n=n) for n in range(1000)), timeout=30).n == 499_500


@case
def no_message_up():
    assert echo["Up"](iter(()), timeout=5).n == 0


@case
def a_hundred_turns_of_a_conversation():
    said = queue.Queue()
    heard = echo["Both"](iter(said.get, None), timeout=30)
    for n in range(100):
        said.put(Note(n=n))
        assert next(heard).n == n
    said.put(None)
    assert not list(heard)


@case
def every_status_with_its_message_and_trailers():
    for code in grpc.StatusCode:
        if code is grpc.StatusCode.OK:
            continue
        error = refused(lambda: echo["Fail"](Note(n=code.value[0], text='détail "x" 100%'), timeout=5))
        assert error.code() is code, (code, error)
        assert error.details() == 'détail "x" 100%', error.details()
        assert dict(error.trailing_metadata())["x-why"] == "because"


@case
def a_deadline_is_kept():
    began = time.monotonic()
    error = refused(lambda: echo["Wait"](Note(n=5), timeout=0.5))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert time.monotonic() - began < 2
    assert echo["Left"](Note(), timeout=8).n == 1, "the service was not told"


@case
def a_deadline_is_passed_on():
    _, call = echo["Unary"].with_call(Note(), timeout=3)
    remaining = dict(call.initial_metadata())["x-remaining"]
    # grpcio rounds up to what it can write in few digits.
    assert 1 < float(remaining) < 3.2, remaining


@case
def a_call_that_is_given_up_is_given_up_at_the_service():
    call = echo["Wait"].future(Note(n=10))
    # The call after it on the same channel shows that it has arrived.
    echo["Unary"](Note(), timeout=5)
    time.sleep(0.2)
    call.cancel()
    assert echo["Left"](Note(), timeout=8).n == 1


@case
def an_unknown_method():
    unknown = channel.unary_unary(f"/{SERVICE}/Nope")
    error = refused(lambda: unknown(b"", timeout=5))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED, error


@case
def health():
    stub = health_pb2_grpc.HealthStub(channel)
    assert stub.Check(health_pb2.HealthCheckRequest(), timeout=5).status == 1
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=5)
    assert next(watch).status == 1
    watch.cancel()


@case
def compressed_messages():
    for how in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert echo["Unary"](Note(text="a" * 100_000), compression=how, timeout=5).text == "a" * 100_000


def grpcurl(*arguments):
    program = pathlib.Path(sys.executable).with_name("grpcurl")
    before = ["-plaintext", "-max-time", "8"]
    done = subprocess.run([program, *before, *arguments], capture_output=True, text=True, timeout=20)
    return done.stdout + done.stderr


@case
def grpcurl_lists_by_reflection():
    said = grpcurl(WEB, "list")
    assert SERVICE in said.splitlines(), said


@case
def grpcurl_calls():
    said = grpcurl("-d", '{"text":"x","n":7}', WEB, f"{SERVICE}/Unary")
    assert '"text": "x"' in said and '"n": 7' in said, said


@case
def grpcurl_streams():
    said = grpcurl("-d", '{"n":3}{"n":4}', WEB, f"{SERVICE}/Up")
    assert '"n": 7' in said, said


@case
def grpcurl_is_told_a_status():
    said = grpcurl("-d", '{"n":7,"text":"no"}', WEB, f"{SERVICE}/Fail")
    assert "PermissionDenied" in said and "Message: no" in said, said


def web(method, note, text=False):
    """What a browser sends and gets: the frames of the response, its head, and its trailers."""
    kind = "application/grpc-web-text" if text else "application/grpc-web"
    body = note.SerializeToString()
    body = b"\0" + struct.pack(">I", len(body)) + body
    request = urllib.request.Request(
        f"http://{WEB}/{SERVICE}/{method}",
        base64.b64encode(body) if text else body,
        {"content-type": f"{kind}+proto", "accept": f"{kind}+proto", "x-grpc-web": "1"},
    )
    with urllib.request.urlopen(request, timeout=8) as response:
        head, body = response.headers, response.read()
    # The service says `application/grpc`, which may or may not name the format.
    assert head["content-type"] in (kind, f"{kind}+proto"), head["content-type"]
    if text:
        # Each piece is padded on its own.
        body = b"".join(base64.b64decode(body[at : at + 4]) for at in range(0, len(body), 4))
    frames = []
    while body:
        length = struct.unpack(">I", body[1:5])[0]
        assert len(body) >= 5 + length, "a frame is cut short"
        frames.append((body[0], body[5 : 5 + length]))
        body = body[5 + length :]
    last = frames.pop()[1] if frames and frames[-1][0] == 0x80 else b""
    trailers = dict(line.split(":", 1) for line in last.decode().split("\r\n") if line)
    trailers = {name.strip().lower(): value.strip() for name, value in trailers.items()}
    assert all(flag == 0 for flag, _ in frames), frames
    return [Note.FromString(data) for _, data in frames], trailers or dict(head.items())


@case
def grpc_web_unary():
    notes, trailers = web("Unary", Note(text="a"))
    assert notes == [Note(text="a")] and trailers["grpc-status"] == "0", trailers


@case
def grpc_web_text_unary():
    notes, trailers = web("Unary", Note(text="ab"), text=True)
    assert notes == [Note(text="ab")] and trailers["grpc-status"] == "0", trailers


@case
def grpc_web_streams():
    for text in (False, True):
        notes, trailers = web("Down", Note(n=50, data=b"xyz"), text)
        assert [note.n for note in notes] == list(range(50)) and trailers["grpc-status"] == "0"


@case
def grpc_web_is_told_a_status():
    for text in (False, True):
        notes, trailers = web("Fail", Note(n=5, text="gone"), text)
        trailers = {name.lower(): value for name, value in trailers.items()}
        assert not notes and trailers["grpc-status"] == "5", trailers
        assert trailers["grpc-message"] == "gone" and trailers["x-why"] == "because", trailers


passed = 0
for run in cases:
    try:
        run()
        passed += 1
        print("ok    ", run.__name__, flush=True)
    except Exception as error:  # every failure is shown, none ends the others
        print("FAILED", run.__name__, type(error).__name__, error, flush=True)
print(f"PASSED {passed}/{len(cases)}", flush=True)
# Threads of calls that were given up would keep the interpreter waiting.
os._exit(passed != len(cases))

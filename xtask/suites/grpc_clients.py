"""Somebody else's gRPC client (grpcio, the C core) against the shop behind Weft.

usage: grpc_clients.py HOST:PORT; the last line is `PASSED n/m`. Messages are written as bytes, so that
nothing need be generated: field 1 as a varint is the id of a user.
"""

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

channel = grpc.insecure_channel(sys.argv[1])
get_user = channel.unary_unary("/weft.shop.v1.Users/GetUser")
stream_users = channel.unary_stream("/weft.shop.v1.Users/StreamUsers")
cases = []


def case(run):
    cases.append(run)
    return run


def refused(call, *arguments, **options):
    """The status of a call that must be refused."""
    try:
        call(*arguments, **options)
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call succeeded")


@case
def unary():
    assert b"Ada" in get_user(b"\x08\x01", timeout=5)


@case
def server_stream():
    assert len(list(stream_users(b"", timeout=5))) >= 5


@case
def metadata_comes_back():
    _, call = get_user.with_call(b"\x08\x01", timeout=5)
    fields = dict(call.initial_metadata())
    assert fields["x-shop-instance"].startswith("users-"), fields


@case
def status_and_message_of_the_service():
    error = refused(get_user, b"\x08\x63", timeout=5)
    assert error.code() is grpc.StatusCode.NOT_FOUND and "99" in error.details(), error


@case
def unknown_method_of_the_service():
    error = refused(channel.unary_unary("/weft.shop.v1.Users/Fly"), b"", timeout=5)
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED, error


@case
def no_route_is_said_in_grpc():
    error = refused(channel.unary_unary("/nowhere.Nothing/Get"), b"", timeout=5)
    assert error.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND), error


@case
def many_at_once_reach_both_instances():
    def one(_):
        _, call = get_user.with_call(b"\x08\x01", timeout=10)
        return dict(call.initial_metadata())["x-shop-instance"]

    with ThreadPoolExecutor(32) as pool:
        seen = set(pool.map(one, range(400)))
    assert seen == {"users-1", "users-2"}, seen


@case
def a_call_that_is_given_up_leaves_the_channel_usable():
    call = stream_users(b"", timeout=5)
    next(call)
    call.cancel()
    unary()


passed = 0
for run in cases:
    try:
        run()
        passed += 1
        print("ok    ", run.__name__, flush=True)
    except Exception as error:  # every failure is shown, none ends the others
        print("FAILED", run.__name__, type(error).__name__, error, flush=True)
print(f"PASSED {passed}/{len(cases)}")
sys.exit(passed != len(cases))

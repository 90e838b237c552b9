"""KurrentDB's own client on Weft's event streams.

usage: kurrent.py WEB API, each HOST:PORT: KurrentDB's protocol, and the API of streams over HTTP below /. With a third
argument it does one half: `write`, then, after the node was killed and started again on what it left, `read`. The last
line is `PASSED n/m`.
"""

import json
import sys
import threading
import time
import urllib.parse
import urllib.request
import uuid

from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient import exceptions as errors
from kurrentdbclient.events import CaughtUp, Checkpoint, FellBehind, NewEvents, NewRecord, StreamStateCheck

WEB, API = sys.argv[1:3]
HALF = sys.argv[3] if len(sys.argv) > 3 else None
passed = count = 0


def check(what, good, seen=""):
    global passed, count
    count += 1
    passed += bool(good)
    if not good:
        print("FAILED", what, repr(seen), flush=True)


def raises(what, kind, call, *args, **kwargs):
    try:
        seen = call(*args, **kwargs)
    except kind as error:
        check(what, True)
        return error
    except Exception as error:
        check(what, False, error)
    else:
        check(what, False, seen)
    return None


def event(kind="placed", data=b"{}", metadata=b"", content_type="application/json", id=None):
    return NewEvent(type=kind, data=data, metadata=metadata, content_type=content_type, id=id or uuid.uuid4())


def http(method, path, body=None, media="application/json"):
    request = urllib.request.Request(f"http://{API}{path}", body, {"content-type": media}, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"null")


def appending(client):
    first = [event(data=b'{"n":%d}' % n, metadata=b'{"by":"me"}') for n in range(3)]
    at = client.append_to_stream("order-1", current_version=StreamState.NO_STREAM, events=first)
    again = client.append_to_stream("order-1", current_version=StreamState.NO_STREAM, events=first)
    check("the same batch again is known", at == again, (at, again))
    read = client.get_stream("order-1")
    check("as many as were appended", len(read) == 3, read)
    check("as they were", [(e.id, e.type, e.data, e.metadata, e.content_type) for e in read]
          == [(e.id, e.type, e.data, e.metadata, e.content_type) for e in first], read)
    check("versions", [e.stream_position for e in read] == [0, 1, 2], read)
    check("positions", read[-1].commit_position == at and read[0].commit_position > 0, read)
    check("when", abs(read[0].recorded_at.timestamp() - time.time()) < 600, read[0].recorded_at)
    one = event("paid", b"\xff\x00", b"\xfe\n", "application/octet-stream")
    at = client.append_event("order-1", current_version=2, event=one)
    check("one again", client.append_event("order-1", current_version=2, event=one) == at)
    last = client.get_stream("order-1", backwards=True, limit=1)[0]
    check("bytes", (last.data, last.metadata, last.content_type) == (b"\xff\x00", b"\xfe\n", "application/octet-stream"), last)
    check("current version", client.get_current_version("order-1") == 3)
    check("no version", client.get_current_version("nobody") == StreamState.NO_STREAM)
    check("any", client.append_event("order-2", current_version=StreamState.ANY, event=event()) == at + 1)
    check("exists", client.append_event("order-2", current_version=StreamState.EXISTS, event=event()) == at + 2)
    check("the end of all", client.get_commit_position() == at + 2, client.get_commit_position())
    wrong = errors.WrongCurrentVersionError
    said = raises("one too late", wrong, client.append_event, "order-1", current_version=1, event=event())
    check("what it is", said and (said.actual_version, said.expected_version) == (3, 1), said)
    said = raises("many too late", wrong, client.append_to_stream, "order-1", current_version=1, events=[event(), event()])
    check("what it is in a batch", said and said.actual_version == 3, said)
    raises("not there", wrong, client.append_event, "nobody", current_version=StreamState.EXISTS, event=event())
    raises("there", wrong, client.append_to_stream, "order-1", current_version=StreamState.NO_STREAM, events=[event()])
    raises("not there with a number", wrong, client.append_to_stream, "nobody", current_version=5, events=[event()])
    large = event(data=b"x" * (2 << 20), content_type="application/octet-stream")
    raises("too large in a batch", errors.MaximumAppendSizeExceededError,
           client.append_to_stream, "nobody", current_version=StreamState.ANY, events=[large])
    raises("too large alone", errors.KurrentDBClientError,
           client.append_event, "nobody", current_version=StreamState.ANY, event=large)
    many = [event(data=b"%d" % n) for n in range(2000)]
    client.append_to_stream("many", current_version=StreamState.NO_STREAM, events=many)
    read = client.get_stream("many")
    check("many", [e.id for e in read] == [e.id for e in many], len(read))
    some = client.get_stream("many", stream_position=1500, backwards=True, limit=700)
    check("backward from the middle", [e.stream_position for e in some] == list(range(1500, 800, -1)), len(some))
    some = client.get_stream("many", stream_position=1990, limit=100)
    check("forward to the end", [e.stream_position for e in some] == list(range(1990, 2000)), len(some))
    check("behind the end", client.get_stream("many", stream_position=5000) == ())
    raises("no such stream", errors.NotFoundError, client.get_stream, "nobody")


def sessions(client):
    pair = [NewEvents("account-a", [event("debited")], StreamState.NO_STREAM),
            NewEvents("account-b", [event("credited", metadata=b'{"why":"x"}')], StreamState.ANY)]
    at = client.multi_append_to_stream(pair)
    check("several again", client.multi_append_to_stream(pair) == at)
    read = client.get_stream("account-b")[0]
    check("properties", json.loads(read.metadata) == {"why": "x"} and read.commit_position == at, read)
    wrong = [NewEvents("account-c", [event()], StreamState.ANY), NewEvents("account-a", [event()], 7)]
    said = raises("several, one too late", errors.WrongCurrentVersionError, client.multi_append_to_stream, wrong)
    check("which one", said and (said.stream_name, said.actual_version) == ("account-a", 0), said)
    raises("nothing of it", errors.NotFoundError, client.get_stream, "account-c")
    records = [NewRecord(stream_name=name, type="moved", data=b"{}") for name in ("account-a", "account-b", "account-a")]
    done = client.append_records(records, checks=[StreamStateCheck("account-a", 0)])
    revisions = {one.stream_name: one.stream_position for one in done.stream_positions}
    check("records", revisions == {"account-a": 2, "account-b": 1}, done)
    check("the end of records", done.commit_position == client.get_commit_position(), done)
    again = [NewRecord(stream_name="account-b", type="moved", data=b"{}")]
    said = raises("a check that does not hold", errors.ConsistencyChecksFailedError, client.append_records, again,
                  checks=[StreamStateCheck("account-b", 1), StreamStateCheck("account-a", StreamState.NO_STREAM)])
    check("which check", said and [(f.stream_state_failure.stream_name, f.check_index) for f in said.failures] == [("account-a", 1)],
          said and said.failures)


def reading_all(client):
    everything = client.read_all()
    everything = list(everything)
    places = [e.commit_position for e in everything]
    check("all in order", places == sorted(set(places)) and len(places) > 2000, len(places))
    check("all backward", [e.commit_position for e in client.read_all(backwards=True)] == places[::-1])
    middle = places[1000]
    check("from a place on", next(iter(client.read_all(commit_position=middle))).commit_position == middle)
    before = next(iter(client.read_all(commit_position=middle, backwards=True)))
    check("before a place", before.commit_position == places[999], before)
    check("limits", len(list(client.read_all(limit=300))) == 300)
    names = [e.stream_name for e in client.read_all(filter_include=["order-.*"], filter_by_stream_name=True)]
    check("streams by expression", set(names) == {"order-1", "order-2"} and len(names) == 6, names)
    names = [e.stream_name for e in client.read_all(filter_include=("account-", "order-"), filter_by_stream_name=True, filter_by_prefix=True)]
    check("streams by prefix", {name.split("-")[0] for name in names} == {"account", "order"}, names)
    kinds = {e.type for e in client.read_all(filter_include=["paid", "deb.*"])}
    check("types by expression", kinds == {"paid", "debited"}, kinds)
    kinds = {e.type for e in client.read_all(filter_exclude=["placed"])}
    check("types left out", kinds == {"paid", "debited", "credited", "moved"}, kinds)
    kinds = [e.type for e in client.read_all(filter_include=["paid"], backwards=True, limit=1)]
    check("backward by type", kinds == ["paid"], kinds)
    raises("no expression", errors.KurrentDBClientError, lambda: list(client.read_all(filter_include=["("])))


def taken(subscription, count, until=15):
    """That many of a subscription, or what there is after a while."""
    timer = threading.Timer(until, subscription.stop)
    timer.start()
    found = []
    for one in subscription:
        found.append(one)
        if len(found) == count:
            break
    timer.cancel()
    return found


def subscribing(client):
    with client.subscribe_to_stream("order-1", include_caught_up=True) as subscription:
        found = taken(subscription, 5)
        check("history", [type(one).__name__ for one in found] == ["RecordedEvent"] * 4 + ["CaughtUp"], found)
        check("caught up where", found[-1].stream_position == 3, found[-1])
        client.append_event("order-1", current_version=StreamState.ANY, event=event("shipped"))
        check("what comes", [one.type for one in taken(subscription, 1)] == ["shipped"])
    with client.subscribe_to_stream("order-1", stream_position=3) as subscription:
        check("behind a version", [one.stream_position for one in taken(subscription, 1)] == [4])
    with client.subscribe_to_stream("later-1") as subscription:
        client.append_event("later-1", current_version=StreamState.NO_STREAM, event=event("begun"))
        check("a stream that begins later", [one.type for one in taken(subscription, 1)] == ["begun"])
    at = client.get_commit_position()
    with client.subscribe_to_all(from_end=True, include_caught_up=True) as subscription:
        found = taken(subscription, 1)
        check("from the end", isinstance(found[0], CaughtUp) and found[0].commit_position == at, (found, at))
        client.append_to_stream("later-1", current_version=0, events=[event("one"), event("two")])
        check("new ones alone", [one.type for one in taken(subscription, 2)] == ["one", "two"])
    with client.subscribe_to_all(commit_position=at) as subscription:
        check("behind a place", [one.type for one in taken(subscription, 2)] == ["one", "two"])
    filtered = dict(filter_include=["one"], include_checkpoints=True, window_size=100, checkpoint_interval_multiplier=2)
    with client.subscribe_to_all(**filtered) as subscription:
        found = taken(subscription, 12)
        check("checkpoints", sum(isinstance(one, Checkpoint) for one in found) >= 10, found)
        places = [one.commit_position for one in found]
        check("checkpoints go on", places == sorted(places), places)
        check("what was filtered", [one.type for one in found if not isinstance(one, Checkpoint)] == ["one"], found)
    everything = [one.commit_position for one in client.read_all(filter_exclude=())]
    with client.subscribe_to_all(filter_exclude=()) as subscription:
        found = [one.commit_position for one in taken(subscription, len(everything))]
        check("all of history", found == everything, len(found))
    # Who does not read falls behind, is told so, and catches up.
    with client.subscribe_to_stream("slow", include_caught_up=True, include_fell_behind=True) as subscription:
        check("nothing yet", isinstance(taken(subscription, 1)[0], CaughtUp))
        for _ in range(6):
            client.append_to_stream("slow", current_version=StreamState.ANY, events=[
                event(data=b"x" * 2000, content_type="application/octet-stream") for _ in range(1000)])
        found = taken(subscription, 6002)
        check("fell behind", sum(isinstance(one, FellBehind) for one in found) == 1, len(found))
        check("caught up again", isinstance(found[-1], CaughtUp) and found[-1].stream_position == 5999, found[-1])
    # A subscriber that does not read holds nobody up.
    everything = list(client.read_all())
    idle = client.subscribe_to_all()
    for _ in range(20):
        client.append_to_stream("bulk", current_version=StreamState.ANY, events=[
            event(data=b"x" * 50_000, content_type="application/octet-stream") for _ in range(20)])
    found = sum(one.stream_name == "bulk" for one in taken(idle, len(everything) + 400, 60))
    check("who reads late reads all", found == 400, found)
    idle.stop()
    check("a call that was cancelled leaves the node whole", client.get_current_version("bulk") == 399)


def removing(client):
    client.append_to_stream("gone-1", current_version=StreamState.NO_STREAM, events=[event() for _ in range(3)])
    raises("deleted too late", errors.WrongCurrentVersionError, client.delete_stream, "gone-1", current_version=1)
    raises("nothing to delete", errors.NotFoundError, client.delete_stream, "nobody", current_version=3)
    raises("nothing that exists", errors.NotFoundError, client.delete_stream, "nobody", current_version=StreamState.EXISTS)
    client.delete_stream("gone-1", current_version=2)
    raises("deleted", errors.NotFoundError, client.get_stream, "gone-1")
    client.append_event("gone-1", current_version=2, event=event("again"))
    read = client.get_stream("gone-1")
    check("begun again", [(e.type, e.stream_position) for e in read] == [("again", 3)], read)
    client.tombstone_stream("gone-1", current_version=StreamState.ANY)
    deleted = errors.StreamIsDeletedError
    raises("ended", deleted, client.get_stream, "gone-1")
    raises("ended for good", deleted, client.append_to_stream, "gone-1", current_version=StreamState.ANY, events=[event()])
    raises("ended already", deleted, client.delete_stream, "gone-1", current_version=StreamState.ANY)
    raises("ended for several", errors.StreamTombstonedError, client.multi_append_to_stream,
           NewEvents("gone-1", [event()], StreamState.ANY))
    raises("ended for who follows", errors.KurrentDBClientError, client.subscribe_to_stream, "gone-1")


def metadata(client):
    client.append_to_stream("log-1", current_version=StreamState.NO_STREAM, events=[event() for _ in range(10)])
    check("none", client.get_stream_metadata("log-1") == ({}, StreamState.NO_STREAM))
    client.set_stream_metadata("log-1", metadata={"$maxCount": 4, "mine": 1})
    said, version = client.get_stream_metadata("log-1")
    check("as it was set", (said, version) == ({"$maxCount": 4, "mine": 1}, 0), said)
    seen = lambda **how: [e.stream_position for e in client.get_stream("log-1", **how)]
    check("the last four", seen() == [6, 7, 8, 9], seen())
    client.append_to_stream("log-1", current_version=9, events=[event(), event()])
    check("still the last four", (seen(), seen(backwards=True)) == ([8, 9, 10, 11], [11, 10, 9, 8]), seen())
    client.set_stream_metadata("log-1", metadata={"$tb": 11}, current_version=0)
    check("cut before", seen() == [11], seen())
    raises("metadata too late", errors.WrongCurrentVersionError, client.set_stream_metadata, "log-1",
           metadata={}, current_version=0)


def beside_http(client):
    body = json.dumps([{"specversion": "1.0", "id": "e1", "source": "/shop", "type": "web", "subject": "7", "data": {"n": 1}}])
    http("POST", "/v1/streams/web-1/events", body.encode(), "application/cloudevents-batch+json")
    read = client.get_stream("web-1")[0]
    check("an event of HTTP", (read.type, json.loads(read.data), read.content_type) == ("web", {"n": 1}, "application/json"), read)
    check("its attributes", json.loads(read.metadata)["subject"] == "7", read.metadata)
    check("its id stays", read.id == client.get_stream("web-1")[0].id)
    client.append_event("web-1", current_version=0, event=event("back", b'{"n":2}', b'{"by":"me"}'))
    shown = http("GET", "/v1/streams/web-1/events")["events"][1]["event"]
    check("an event over HTTP", (shown["type"], shown["data"], shown["datacontenttype"]) == ("back", {"n": 2}, "application/json"), shown)
    check("its metadata", shown["kurrentmetadata"] == '{"by":"me"}' and shown["source"] == "/streams/web-1", shown)


def absent(client):
    raises("projections", errors.KurrentDBClientError, client.get_projection_statistics, "p")


def discovering():
    client = KurrentDBClient(f"kurrentdb+discover://{WEB}?Tls=false&NodePreference=leader&MaxDiscoverAttempts=2")
    check("found by gossip", client.get_current_version("order-1") >= 0)
    client.close()


def in_parallel(client):
    def one(name):
        for n in range(30):
            client.append_to_stream(name, current_version=n - 1 if n else StreamState.NO_STREAM, events=[event(data=b"%d" % n)])
    threads = [threading.Thread(target=one, args=(f"side-{n}",)) for n in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    check("side by side", all(len(client.get_stream(f"side-{n}")) == 30 for n in range(8)))
    read = list(client.read_all(filter_include=["side-.*"], filter_by_stream_name=True))
    check("all of them in all", len(read) == 240, len(read))


client = KurrentDBClient(f"kurrentdb://{WEB}?Tls=false")
if HALF == "read":
    # The node was killed in between.
    check("what was acknowledged is there", client.get_current_version("order-1") == 4)
    check("many are there", len(client.get_stream("many")) == 2000)
    raises("what has ended has ended", errors.StreamIsDeletedError, client.get_stream, "gone-1")
    check("metadata are there", client.get_stream_metadata("log-1")[0] == {"$tb": 11})
    at = client.append_event("order-1", current_version=4, event=event("after"))
    check("it goes on", at == client.get_commit_position())
    with client.subscribe_to_all(commit_position=at - 1) as subscription:
        check("subscriptions go on", [one.type for one in taken(subscription, 1)] == ["after"])
else:
    for part in (appending, sessions, reading_all, subscribing, removing, metadata, beside_http, absent, in_parallel):
        try:
            part(client)
        except Exception as error:
            import traceback
            traceback.print_exc()
            check(part.__name__, False, error)
    discovering()
client.close()
print(f"PASSED {passed}/{count}")
sys.exit(passed != count or count < (6 if HALF == "read" else 80))

"""Links and persistent subscriptions of KurrentDB's own client on Weft's event streams.

usage: kurrent_persistent.py HALF CONNECTION, a connection string of KurrentDB. `write` leaves events that nobody has
acknowledged; `read`, after the node was killed and started again, has them come. The last line is `PASSED n/m`.
"""

import sys
import threading
import time
import uuid

from kurrentdbclient import KurrentDBClient, NewEvent, StreamState
from kurrentdbclient import exceptions as errors

HALF, CONNECTION = sys.argv[1:3]
CA = open(sys.argv[3], "rb").read() if len(sys.argv) > 3 else None
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


def append(client, stream, kinds):
    events = [NewEvent(type=kind, data=b'{"n":%d}' % n) for n, kind in enumerate(kinds)]
    client.append_to_stream(stream, current_version=StreamState.ANY, events=events)
    return [event.id for event in events]


def taken(subscription, wanted, until=15):
    """That many of a subscription, or what there is after a while."""
    timer = threading.Timer(until, subscription.stop)
    timer.start()
    found = []
    for one in subscription:
        found.append(one)
        if len(found) == wanted:
            break
    timer.cancel()
    return found


def settled(good, patience=15):
    """Waits until something is so: acknowledgements go when the client sends them."""
    end = time.monotonic() + patience
    while not good() and time.monotonic() < end:
        time.sleep(0.05)
    return good()


def links(client):
    append(client, "bill-1", ["sent", "paid"])
    append(client, "bill-2", ["sent"])
    append(client, "bill", ["sent"])
    plain = client.get_stream("$ce-bill")
    check("links", [(e.type, e.data, e.stream_name) for e in plain]
          == [("$>", b"0@bill-1", "$ce-bill"), ("$>", b"1@bill-1", "$ce-bill"), ("$>", b"0@bill-2", "$ce-bill")], plain)
    read = client.get_stream("$ce-bill", resolve_links=True)
    check("what they lead to", [(e.stream_name, e.stream_position, e.type) for e in read]
          == [("bill-1", 0, "sent"), ("bill-1", 1, "paid"), ("bill-2", 0, "sent")], read)
    places = [e.link.stream_position for e in read]
    check("revisions go up", places == sorted(set(places)), places)
    some = client.get_stream("$ce-bill", resolve_links=True, stream_position=places[1])
    check("from one on", [e.type for e in some] == ["paid", "sent"], some)
    back = client.get_stream("$ce-bill", resolve_links=True, backwards=True, limit=2)
    check("backward", [(e.stream_name, e.type) for e in back] == [("bill-2", "sent"), ("bill-1", "paid")], back)
    kinds = client.get_stream("$et-sent", resolve_links=True)
    check("by type", [e.stream_name for e in kinds] == ["bill-1", "bill-2", "bill"], kinds)
    raises("no such category", errors.NotFoundError, client.get_stream, "$ce-nobody")
    raises("written to", errors.KurrentDBClientError, append, client, "$ce-bill", ["x"])
    said = raises("others of projections", errors.KurrentDBClientError, client.get_stream, "$streams")
    check("which says what there is", said and "$ce-" in str(said), said)
    with client.subscribe_to_stream("$ce-bill", resolve_links=True, stream_position=places[1]) as subscription:
        append(client, "bill-3", ["late"])
        check("followed", [e.type for e in taken(subscription, 2)] == ["sent", "late"])


def definitions(client):
    client.create_subscription_to_stream("g", "bill-1", message_timeout=7, max_retry_count=4, max_subscriber_count=1,
                                         consumer_strategy="RoundRobin")
    raises("created twice", errors.AlreadyExistsError, client.create_subscription_to_stream, "g", "bill-1")
    info = client.get_subscription_info("g", "bill-1")
    check("as it was created", (info.event_source, info.group_name, info.message_timeout, info.max_retry_count,
          info.max_subscriber_count, info.consumer_strategy, info.start_from)
          == ("bill-1", "g", 7, 4, 1, "RoundRobin", "0"), info)
    client.update_subscription_to_stream("g", "bill-1", max_retry_count=2, consumer_strategy="Pinned")
    info = client.get_subscription_info("g", "bill-1")
    check("as it was changed", (info.max_retry_count, info.consumer_strategy) == (2, "Pinned"), info)
    client.create_subscription_to_all("a", from_end=True)
    names = [(info.event_source, info.group_name) for info in client.list_subscriptions()]
    check("all of them", names == [("$all", "a"), ("bill-1", "g")], names)
    names = [info.group_name for info in client.list_subscriptions_to_stream("bill-1")]
    check("those of a stream", names == ["g"], names)
    missing = errors.NotFoundError
    raises("read nothing", missing, client.read_subscription_to_stream, "x", "bill-1")
    raises("told of nothing", missing, client.get_subscription_info, "x", "bill-1")
    raises("delete nothing", missing, client.delete_subscription, "x", "bill-1")
    raises("replay nothing", missing, client.replay_parked_events, "x", "bill-1")
    client.update_subscription_to_stream("g", "bill-1", max_subscriber_count=1)
    with client.read_subscription_to_stream("g", "bill-1"):
        raises("one too many", errors.MaximumSubscriptionsReachedError, client.read_subscription_to_stream, "g", "bill-1")
    client.delete_subscription("g", "bill-1")
    client.delete_subscription("a")
    check("deleted", client.list_subscriptions() == [], client.list_subscriptions())


def consuming(client):
    ids = append(client, "task-1", ["t"] * 6)
    client.create_subscription_to_stream("work", "task-1", max_retry_count=1, message_timeout=60)
    info = lambda: client.get_subscription_info("work", "task-1")
    with client.read_subscription_to_stream("work", "task-1", max_ack_delay=0.05) as subscription:
        found = taken(subscription, 6)
        check("in their order", [e.id for e in found] == ids, found)
        subscription.ack(found[0])
        subscription.nack(found[1], "park")
        subscription.nack(found[2], "skip")
        subscription.nack(found[3], "retry")
        again = taken(subscription, 1)
        check("once more", [(e.id, e.retry_count) for e in again] == [(ids[3], 1)], again)
        subscription.nack(again[0], "retry")
        check("parked in the end", settled(lambda: info().parked_message_count == 2), info())
        subscription.ack(found[4])
        check("up to where", settled(lambda: info().last_checkpointed_event_position == "4"), info())
        check("the rest is out", (info().total_in_flight_messages, len(info().connections)) == (1, 1), info())
        client.replay_parked_events("work", "task-1")
        parked = sorted((e.stream_position, e.retry_count) for e in taken(subscription, 2))
        check("replayed", parked == [(1, 0), (3, 0)], parked)
        late = append(client, "task-1", ["late"])
        check("what comes", [e.id for e in taken(subscription, 1)] == late)
    with client.read_subscription_to_stream("work", "task-1", max_ack_delay=0.05) as subscription:
        found = taken(subscription, 4)
        check("given back by who went", sorted(e.stream_position for e in found) == [1, 3, 5, 6], found)
        [subscription.ack(e) for e in found]
        check("all is done", settled(lambda: info().last_checkpointed_event_position == "6"), info())


def several(client):
    append(client, "race-1", ["r"] * 300)
    client.create_subscription_to_stream("race", "race-1", consumer_strategy="RoundRobin")
    found = [[], []]

    def work(mine):
        own = KurrentDBClient(CONNECTION)
        with own.read_subscription_to_stream("race", "race-1", max_ack_delay=0.05, event_buffer_size=20) as subscription:
            timer = threading.Timer(20, subscription.stop)
            timer.start()
            for one in subscription:
                mine.append(one.stream_position)
                subscription.ack(one)
                if len(found[0]) + len(found[1]) >= 300:
                    break
                if client.get_subscription_info("race", "race-1").last_checkpointed_event_position == "299":
                    break
            timer.cancel()
        own.close()

    def until_deleted(mine):
        try:
            work(mine)
        except errors.CancelledError:
            pass

    threads = [threading.Thread(target=until_deleted, args=(mine,)) for mine in found]
    [thread.start() for thread in threads]
    done = settled(lambda: sorted(found[0] + found[1]) == list(range(300)), 30)
    check("each for one of them", done, (len(found[0]), len(found[1])))
    check("both have worked", min(map(len, found)) > 20, list(map(len, found)))
    client.delete_subscription("race", "race-1")
    [thread.join(30) for thread in threads]


def filtered(client):
    at = client.get_commit_position()
    client.create_subscription_to_all("some", filter_include=["job-.*"], filter_by_stream_name=True, commit_position=at)
    append(client, "other-1", ["x"])
    ids = append(client, "job-1", ["y", "z"])
    with client.read_subscription_to_all("some", max_ack_delay=0.05) as subscription:
        found = taken(subscription, 2)
        check("of all, filtered", [e.id for e in found] == ids, found)
        [subscription.ack(e) for e in found]
        place = lambda: client.get_subscription_info("some").last_checkpointed_event_position
        check("up to a place", settled(lambda: place() == f"C:{found[1].commit_position}/P:{found[1].commit_position}"), place())
    client.create_subscription_to_stream("bills", "$ce-bill", resolve_links=True)
    with client.read_subscription_to_stream("bills", "$ce-bill", max_ack_delay=0.05) as subscription:
        found = taken(subscription, 4)
        check("of a category", [e.stream_name for e in found] == ["bill-1", "bill-1", "bill-2", "bill-3"], found)
        check("by links", all(e.link for e in found), found)
        [subscription.ack(e) for e in found]
        check("acknowledged by the link", settled(
            lambda: client.get_subscription_info("bills", "$ce-bill").total_in_flight_messages == 0))


def leaving(client):
    """What the second half finds."""
    append(client, "left-1", ["l"] * 8)
    client.create_subscription_to_stream("left", "left-1")
    subscription = client.read_subscription_to_stream("left", "left-1", max_ack_delay=0.05)
    found = taken(subscription, 8)
    for one in (found[0], found[1], found[4]):
        subscription.ack(one)
    subscription.nack(found[5], "park")
    info = lambda: client.get_subscription_info("left", "left-1")
    check("some are done", settled(lambda: info().total_in_flight_messages == 4), info())


client = KurrentDBClient(CONNECTION, root_certificates=CA) if CA else KurrentDBClient(CONNECTION)
if HALF == "read":
    info = client.get_subscription_info("left", "left-1")
    check("it is where it was", (info.last_checkpointed_event_position, info.parked_message_count) == ("1", 1), info)
    with client.read_subscription_to_stream("left", "left-1") as subscription:
        found = taken(subscription, 4)
        check("what was not acknowledged, and no more", [e.stream_position for e in found] == [2, 3, 6, 7], found)
        client.replay_parked_events("left", "left-1")
        check("what was parked", [e.stream_position for e in taken(subscription, 1)] == [5])
    expect = 3
elif HALF == "tls":
    ids = append(client, f"safe-{uuid.uuid4()}", ["s"])
    check("over TLS", ids[0] in [e.id for e in client.read_all(filter_include=["s"])])
    stream = f"safe-{uuid.uuid4()}"
    ids = append(client, stream, ["s"])
    client.create_subscription_to_stream("safe", stream)
    with client.read_subscription_to_stream("safe", stream) as subscription:
        check("consumed over TLS", [e.id for e in taken(subscription, 1)] == ids)
    expect = 2
else:
    for part in (links, definitions, consuming, several, filtered, leaving):
        try:
            part(client)
        except Exception as error:
            import traceback
            traceback.print_exc()
            check(part.__name__, False, error)
    expect = 35
client.close()
print(f"PASSED {passed}/{count}", flush=True)
# Threads of calls that are left on purpose hold up nobody.
import os
os._exit(passed != count or count < expect)

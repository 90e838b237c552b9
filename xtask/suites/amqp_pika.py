"""AMQP 0-9-1 by pika: every feature that a RabbitMQ application leans on, and the errors it is told.

usage: AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2F amqp_pika.py; the last line is `PASSED n/m`.
"""

import contextlib
import json
import os
import random
import threading
import time
from urllib.parse import urlsplit, urlunsplit

import pika
from pika import spec
from pika.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ChannelClosedByBroker,
    ConnectionClosedByBroker,
    NackError,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    UnroutableError,
)

from amqp_report import URL, begins, case, main, name, same, until

PERSISTENT = pika.BasicProperties(delivery_mode=2)


def parameters(**changes):
    found = pika.URLParameters(URL)
    found.socket_timeout = 10
    for key, value in changes.items():
        setattr(found, key, value)
    return found


@contextlib.contextmanager
def connected(**changes):
    connection = pika.BlockingConnection(parameters(**changes))
    try:
        yield connection
    finally:
        with contextlib.suppress(Exception):
            connection.close()


@contextlib.contextmanager
def channel(**changes):
    with connected(**changes) as connection:
        yield connection.channel()


def queue(ch, **options):
    """A queue of its own, gone with the connection unless it is to outlive it."""
    options.setdefault("exclusive", not options.get("durable", False))
    return ch.queue_declare(options.pop("name", name()), **options).method.queue


def exchange(ch, kind, **options):
    title = options.pop("name", name("x"))
    options.setdefault("auto_delete", False)
    ch.exchange_declare(title, kind, **options)
    return title


def put(ch, where, body, key=None, **properties):
    """To a queue by the default exchange, or to an exchange by a key."""
    to, by = ("", where) if key is None else (where, key)
    ch.basic_publish(to, by, body, pika.BasicProperties(**properties))


def get(ch, where, ack=True, longest=5.0):
    """The next message of a queue, waited for."""
    return until(f"a message in {where}", lambda: take(ch, where, ack), longest)


def take(ch, where, ack=True):
    """The next message of a queue as (method, properties, body), or nothing."""
    method, properties, body = ch.basic_get(where, auto_ack=ack)
    return (method, properties, body) if method else None


def bodies(ch, where, count, longest=5.0):
    """Exactly so many bodies, and no more behind them."""
    found = [get(ch, where, longest=longest)[2] for _ in range(count)]
    same(take(ch, where), None, "one message too many")
    return found


def depth(ch, where):
    return ch.queue_declare(where, passive=True).method.message_count


def settles(ch, where, count, longest=5.0):
    until(f"{count} messages in {where}", lambda: depth(ch, where) == count, longest)


def refused(code, text, act):
    """The broker closes the channel with this code and this beginning of a text."""
    try:
        act()
    except ChannelClosedByBroker as closed:
        same(closed.reply_code, code, closed.reply_text)
        begins(closed.reply_text, text)
        return
    raise AssertionError(f"not refused with {code} {text}")


def dropped(code, text, act):
    """The broker closes the whole connection with this code."""
    try:
        act()
    except ConnectionClosedByBroker as closed:
        same(closed.reply_code, code, closed.reply_text)
        begins(closed.reply_text, text)
        return
    raise AssertionError(f"the connection was not closed with {code} {text}")


def other_url(user=None, password=None, vhost=None):
    parts = urlsplit(URL)
    user = user or parts.username or "guest"
    password = password or parts.password or "guest"
    place = parts.path if vhost is None else f"/{vhost}"
    return urlunsplit((parts.scheme, f"{user}:{password}@{parts.hostname}:{parts.port}", place, "", ""))


# ---- connections and channels


@case("the server introduces itself and offers what clients look for")
def introduces():
    with connected() as connection:
        properties = connection._impl.server_properties
        capabilities = properties["capabilities"]
        for wanted in (
            "publisher_confirms",
            "exchange_exchange_bindings",
            "basic.nack",
            "consumer_cancel_notify",
            "connection.blocked",
            "per_consumer_qos",
            "authentication_failure_close",
            "direct_reply_to",
        ):
            same(capabilities.get(wanted), True, wanted)
        assert properties.get("product") and properties.get("version"), properties


@case("a wrong password is told as such")
def wrong_password():
    try:
        pika.BlockingConnection(pika.URLParameters(other_url(password="not-it")))
    except ProbableAuthenticationError as error:
        assert "ACCESS_REFUSED" in str(error) and "403" in str(error), error
    except (AuthenticationError, ProbableAccessDeniedError) as error:
        raise AssertionError(f"told as {error!r}") from error
    else:
        raise AssertionError("let in with a wrong password")


@case("an unknown user is told the same")
def unknown_user():
    try:
        pika.BlockingConnection(pika.URLParameters(other_url(user="nobody-here")))
    except ProbableAuthenticationError as error:
        assert "ACCESS_REFUSED" in str(error), error
    else:
        raise AssertionError("let in as nobody")


@case("an unknown virtual host is told by name")
def unknown_vhost():
    try:
        pika.BlockingConnection(pika.URLParameters(other_url(vhost="nowhere")))
    except (ConnectionClosedByBroker, ProbableAccessDeniedError) as error:
        assert "530" in str(error) and "NOT_ALLOWED - vhost nowhere not found" in str(error), error
    else:
        raise AssertionError("let in to a virtual host that does not exist")


@case("limits of frames and channels are negotiated down")
def negotiation():
    with connected(frame_max=8192, channel_max=7, heartbeat=25) as connection:
        tuned = connection._impl.params
        same((tuned.frame_max, tuned.channel_max, tuned.heartbeat), (8192, 7, 25))
        # What is larger than a frame still travels, both ways.
        ch = connection.channel()
        q = queue(ch)
        body = os.urandom(100_000)
        put(ch, q, body)
        same(get(ch, q)[2], body)


@case("heartbeats keep an idle connection, both ways")
def heartbeats():
    with connected(heartbeat=2) as connection:
        ch = connection.channel()
        q = queue(ch)
        connection.sleep(7)
        put(ch, q, b"alive")
        same(get(ch, q)[2], b"alive")


@case("channels are closed and their numbers used again")
def channel_numbers():
    with connected() as connection:
        for _ in range(3):
            ch = connection.channel(5)
            same(ch.channel_number, 5)
            queue(ch)
            ch.close()
        many = [connection.channel() for _ in range(50)]
        same(len({ch.channel_number for ch in many}), 50)
        for ch in many:
            ch.close()


@case("a channel that was closed by an error leaves the others alone")
def errors_stay_in_the_channel():
    with connected() as connection:
        good, bad = connection.channel(), connection.channel()
        q = queue(good)
        refused(404, "NOT_FOUND - no queue", lambda: bad.queue_declare(name(), passive=True))
        assert bad.is_closed
        put(good, q, b"still here")
        same(get(good, q)[2], b"still here")
        again = connection.channel(bad.channel_number)
        put(again, q, b"and again")
        same(get(again, q)[2], b"and again")


# ---- exchanges, queues, bindings


@case("what is declared again as it is, is no error")
def redeclare():
    with channel() as ch:
        q, x = name(), name("x")
        for _ in range(2):
            ch.queue_declare(q, durable=True, arguments={"x-max-length": 9})
            ch.exchange_declare(x, "topic", durable=True)
        ch.queue_declare(q, passive=True)
        ch.exchange_declare(x, passive=True)
        ch.queue_delete(q)
        ch.exchange_delete(x)


@case("declaring a queue otherwise is refused with what differs")
def redeclare_queue():
    q = name()
    with channel() as ch:
        ch.queue_declare(q, durable=True, arguments={"x-message-ttl": 5000})
    try:
        with channel() as ch:
            refused(
                406,
                f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{q}' in vhost '/': "
                "received 'false' but current is 'true'",
                lambda: ch.queue_declare(q, durable=False, arguments={"x-message-ttl": 5000}),
            )
        with channel() as ch:
            refused(
                406,
                f"PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue '{q}' in vhost '/': "
                "received none but current is the value '5000' of type 'signedint'",
                lambda: ch.queue_declare(q, durable=True),
            )
        with channel() as ch:
            refused(
                406,
                f"PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '{q}' in vhost '/': "
                "received 'true' but current is 'false'",
                lambda: ch.queue_declare(
                    q, durable=True, auto_delete=True, arguments={"x-message-ttl": 5000}
                ),
            )
    finally:
        with channel() as ch:
            ch.queue_delete(q)


@case("declaring an exchange otherwise is refused with what differs")
def redeclare_exchange():
    with connected() as connection:
        x = exchange(connection.channel(), "direct", durable=True)
        refused(
            406,
            f"PRECONDITION_FAILED - inequivalent arg 'type' for exchange '{x}' in vhost '/': "
            "received 'fanout' but current is 'direct'",
            lambda: connection.channel().exchange_declare(x, "fanout", durable=True),
        )
        refused(
            406,
            f"PRECONDITION_FAILED - inequivalent arg 'durable' for exchange '{x}' in vhost '/': "
            "received 'false' but current is 'true'",
            lambda: connection.channel().exchange_declare(x, "direct"),
        )
        connection.channel().exchange_delete(x)


@case("passive declares of what is not there are refused")
def passive():
    with connected() as connection:
        q, x = name(), name("x")
        refused(
            404,
            f"NOT_FOUND - no queue '{q}' in vhost '/'",
            lambda: connection.channel().queue_declare(q, passive=True),
        )
        refused(
            404,
            f"NOT_FOUND - no exchange '{x}' in vhost '/'",
            lambda: connection.channel().exchange_declare(x, passive=True),
        )


@case("names of the server's own are refused")
def reserved_names():
    with connected() as connection:
        refused(
            403,
            "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
            lambda: connection.channel().queue_declare("amq.mine"),
        )
        refused(
            403,
            "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
            lambda: connection.channel().exchange_declare("amq.mine", "direct"),
        )


@case("an unknown exchange type is refused")
def unknown_type():
    with connected() as connection:
        dropped(
            503,
            "COMMAND_INVALID - unknown exchange type 'no-such-type'",
            lambda: connection.channel().exchange_declare(name("x"), "no-such-type"),
        )


@case("the server names a queue, and the channel remembers it")
def server_named():
    with channel() as ch:
        q = ch.queue_declare("", exclusive=True).method.queue
        begins(q, "amq.gen-")
        ch.queue_bind("", "amq.fanout")  # the empty name is the last one declared
        ch.basic_publish("amq.fanout", "", b"to the last")
        same(bodies(ch, q, 1), [b"to the last"])


@case("the predeclared exchanges are there")
def predeclared():
    with channel() as ch:
        for kind in ("direct", "fanout", "topic", "headers"):
            ch.exchange_declare(f"amq.{kind}", kind, passive=True)
            ch.exchange_declare(f"amq.{kind}", kind, durable=True)
        ch.exchange_declare("amq.match", "headers", durable=True)


@case("the default exchange reaches each queue by name, and nothing else")
def default_exchange():
    with connected() as connection:
        ch = connection.channel()
        q, p = queue(ch), queue(ch)
        put(ch, q, b"q")
        put(ch, p, b"p")
        same((bodies(ch, q, 1), bodies(ch, p, 1)), ([b"q"], [b"p"]))
        for act in (
            lambda: connection.channel().queue_bind(q, "", "x"),
            lambda: connection.channel().queue_unbind(q, "", q),
            lambda: connection.channel().exchange_delete(""),
            lambda: connection.channel().exchange_declare("", "direct"),
        ):
            refused(403, "ACCESS_REFUSED - operation not permitted on the default exchange", act)


@case("direct: by the exact key, several queues, several keys")
def direct():
    with channel() as ch:
        x = exchange(ch, "direct")
        a, b = queue(ch), queue(ch)
        for q, keys in ((a, ("red", "blue")), (b, ("red", ""))):
            for key in keys:
                ch.queue_bind(q, x, key)
        ch.queue_bind(a, x, "red")  # twice is once
        for key in ("red", "blue", "", "redd", "Red"):
            ch.basic_publish(x, key, key.encode() or b"empty")
        same((bodies(ch, a, 2), bodies(ch, b, 2)), ([b"red", b"blue"], [b"red", b"empty"]))
        ch.queue_unbind(a, x, "red")
        ch.basic_publish(x, "red", b"one")
        same((bodies(ch, a, 0), bodies(ch, b, 1)), ([], [b"one"]))
        ch.exchange_delete(x)


@case("fanout: to all, whatever the key, each queue once")
def fanout():
    with channel() as ch:
        x = exchange(ch, "fanout")
        queues = [queue(ch) for _ in range(5)]
        for q in queues:
            ch.queue_bind(q, x, "a")
            ch.queue_bind(q, x, "b")
        for body in (b"1", b"2", b"3"):
            ch.basic_publish(x, "whatever", body)
        for q in queues:
            same(bodies(ch, q, 3), [b"1", b"2", b"3"])
        ch.exchange_delete(x)


@case("topic: words, stars and hashes")
def topic():
    table = [
        ("a.b.c", "a.b.c", True),
        ("a.*.c", "a.b.c", True),
        ("a.*.c", "a.c", False),
        ("a.*.c", "a.b.b.c", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "b.a", False),
        ("#", "", True),
        ("#", "x.y", True),
        ("*", "", False),  # no key is no word
        ("*", "x.y", False),
        ("#.c", "c", True),
        ("#.c", "a.b.c", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.c", "a.b.c.d", False),
        ("*.#", "a", True),
        ("#.*", "", False),
        ("#.#", "a.b", True),
        ("a.*", "a.", True),
        ("a.b", "A.B", False),
        ("*.b.*", "a.b.c", True),
        ("#.b.#", "a.x.b.y.z", True),
        ("#.b.#", "a.x.y.z", False),
    ]
    with channel() as ch:
        for pattern, key, expected in table:
            x, q = exchange(ch, "topic", auto_delete=True), queue(ch)
            ch.queue_bind(q, x, pattern)
            ch.basic_publish(x, key, b"m")
            ch.queue_declare(q, passive=True)  # behind the message
            same(take(ch, q) is not None, expected, f"{pattern!r} with {key!r}")
            ch.queue_delete(q)


@case("topic: several patterns that match give one message")
def topic_once():
    with channel() as ch:
        x, q = exchange(ch, "topic"), queue(ch)
        for pattern in ("a.#", "a.b", "*.b", "#"):
            ch.queue_bind(q, x, pattern)
        ch.basic_publish(x, "a.b", b"once")
        same(bodies(ch, q, 1), [b"once"])
        for pattern in ("a.#", "*.b", "#"):
            ch.queue_unbind(q, x, pattern)
        ch.basic_publish(x, "a.c", b"no")
        ch.basic_publish(x, "a.b", b"yes")
        same(bodies(ch, q, 1), [b"yes"])
        ch.exchange_delete(x)


@case("headers: all and any, values and their types, mere presence")
def headers():
    table = [
        ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 0}, True),
        ({"x-match": "all", "a": 1, "b": "x"}, {"a": 1}, False),
        ({"x-match": "any", "a": 1, "b": "x"}, {"b": "x"}, True),
        ({"x-match": "any", "a": 1, "b": "x"}, {"b": "y"}, False),
        ({"a": 1}, {"a": 1, "z": 2}, True),  # all without a word
        ({"a": "1"}, {"a": 1}, False),
        ({"x-match": "all"}, {"z": 2}, True),
        ({"x-match": "any"}, {"z": 2}, False),
        ({"x-match": "all", "a": None}, {"a": "whatever"}, True),
        ({"x-match": "all", "x-a": 1, "b": 1}, {"b": 1}, True),  # x- is left out
        ({"x-match": "all-with-x", "x-a": 1}, {"x-a": 2}, False),
        ({"x-match": "any-with-x", "x-a": 1, "b": 5}, {"x-a": 1}, True),
        ({"x-match": "all", "a": True}, {"a": True}, True),
    ]
    with channel() as ch:
        for arguments, given, expected in table:
            x, q = exchange(ch, "headers", auto_delete=True), queue(ch)
            ch.queue_bind(q, x, "ignored", arguments)
            ch.basic_publish(x, "", b"m", pika.BasicProperties(headers=given))
            ch.queue_declare(q, passive=True)
            same(take(ch, q) is not None, expected, f"{arguments} with {given}")
            ch.queue_delete(q)


@case("a wrong x-match is refused")
def wrong_match():
    with connected() as connection:
        ch = connection.channel()
        x, q = exchange(ch, "headers"), queue(ch)
        refused(
            406,
            "PRECONDITION_FAILED - Invalid x-match field value <<\"some\">>; expected all, any, "
            "all-with-x, or any-with-x",
            lambda: connection.channel().queue_bind(q, x, "", {"x-match": "some"}),
        )
        connection.channel().exchange_delete(x)


@case("exchange to exchange: through, filtered, in a circle, once per queue")
def exchange_to_exchange():
    with channel() as ch:
        top, low, wide = exchange(ch, "topic"), exchange(ch, "direct"), exchange(ch, "fanout")
        q, p = queue(ch), queue(ch)
        ch.exchange_bind(low, top, "eu.*")
        ch.exchange_bind(wide, top, "#")
        ch.exchange_bind(top, wide)  # a circle ends
        ch.queue_bind(q, low, "eu.de")
        ch.queue_bind(q, wide)
        ch.queue_bind(p, low, "us.ny")
        ch.basic_publish(top, "eu.de", b"de")
        ch.basic_publish(top, "us.ny", b"ny")
        same(bodies(ch, q, 2), [b"de", b"ny"])
        same(bodies(ch, p, 0), [])
        ch.exchange_unbind(wide, top, "#")
        ch.basic_publish(top, "us.ny", b"gone")
        ch.basic_publish(top, "eu.de", b"kept")
        same(bodies(ch, q, 1), [b"kept"])
        for x in (top, low, wide):
            ch.exchange_delete(x)


@case("alternate exchange: what finds no queue goes there, also in a row")
def alternate():
    with channel() as ch:
        last = exchange(ch, "fanout")
        middle = exchange(ch, "direct", arguments={"alternate-exchange": last})
        first = exchange(ch, "direct", arguments={"alternate-exchange": middle})
        q, lost = queue(ch), queue(ch)
        ch.queue_bind(q, first, "known")
        ch.queue_bind(lost, last)
        ch.confirm_delivery()
        ch.basic_publish(first, "known", b"found")
        # What the alternate takes is routed: it is not returned.
        ch.basic_publish(first, "strange", b"stray", mandatory=True)
        same((bodies(ch, q, 1), bodies(ch, lost, 1)), ([b"found"], [b"stray"]))
        for x in (first, middle, last):
            ch.exchange_delete(x)


@case("an internal exchange takes no publish, yet routes")
def internal():
    with connected() as connection:
        ch = connection.channel()
        x = exchange(ch, "fanout", internal=True)
        entry, q = exchange(ch, "fanout"), queue(ch)
        ch.exchange_bind(x, entry)
        ch.queue_bind(q, x)
        ch.basic_publish(entry, "", b"through")
        same(bodies(ch, q, 1), [b"through"])

        def act():
            bad = connection.channel()
            bad.basic_publish(x, "", b"no")
            bad.queue_declare(q, passive=True)

        refused(403, f"ACCESS_REFUSED - cannot publish to internal exchange '{x}' in vhost '/'", act)
        ch.exchange_delete(x)
        ch.exchange_delete(entry)


@case("publishing to an exchange that is not there closes the channel")
def publish_nowhere():
    with connected() as connection:
        x = name("x")

        def act():
            ch = connection.channel()
            ch.basic_publish(x, "", b"no")
            ch.queue_declare("", exclusive=True)

        refused(404, f"NOT_FOUND - no exchange '{x}' in vhost '/'", act)


@case("auto-delete: a queue goes with its last consumer, an exchange with its last binding")
def auto_delete():
    with connected() as connection:
        ch = connection.channel()
        q = ch.queue_declare(name(), auto_delete=True).method.queue
        ch.queue_declare(q, passive=True)  # stays while nobody has consumed yet
        one = ch.basic_consume(q, lambda *_: None)
        two = ch.basic_consume(q, lambda *_: None)
        ch.basic_cancel(one)
        ch.queue_declare(q, passive=True)
        ch.basic_cancel(two)
        refused(404, "NOT_FOUND", lambda: connection.channel().queue_declare(q, passive=True))
        ch = connection.channel()
        x = exchange(ch, "fanout", auto_delete=True)
        q = queue(ch)
        ch.queue_bind(q, x)
        ch.queue_delete(q)
        refused(404, "NOT_FOUND", lambda: connection.channel().exchange_declare(x, passive=True))


@case("exclusive: closed to others, gone with its connection")
def exclusive():
    with connected() as mine, connected() as other:
        ch = mine.channel()
        q = ch.queue_declare(name(), exclusive=True).method.queue
        text = f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{q}' in vhost '/'"
        refused(405, text, lambda: other.channel().queue_declare(q, passive=True))
        refused(405, text, lambda: other.channel().queue_declare(q, exclusive=True))
        refused(405, text, lambda: other.channel().basic_get(q))
        refused(405, text, lambda: other.channel().basic_consume(q, lambda *_: None))
        refused(405, text, lambda: other.channel().queue_delete(q))
        refused(405, text, lambda: other.channel().queue_purge(q))
        refused(405, text, lambda: other.channel().queue_bind(q, "amq.fanout"))
        put(other.channel(), q, b"publishing is open to all")
        same(bodies(ch, q, 1), [b"publishing is open to all"])
        mine.close()

        def gone():
            try:
                other.channel().queue_declare(q, passive=True)
            except ChannelClosedByBroker as closed:
                return closed.reply_code == 404

        until("the exclusive queue is gone", gone)


@case("delete: unless empty, unless used, and what it counts")
def delete():
    with connected() as connection:
        ch = connection.channel()
        q = ch.queue_declare(name()).method.queue
        for body in (b"1", b"2", b"3"):
            put(ch, q, body)
        settles(ch, q, 3)
        refused(
            406,
            f"PRECONDITION_FAILED - queue '{q}' in vhost '/' not empty",
            lambda: connection.channel().queue_delete(q, if_empty=True),
        )
        ch = connection.channel()
        ch.basic_consume(q, lambda *_: None)
        refused(
            406,
            f"PRECONDITION_FAILED - queue '{q}' in vhost '/' in use",
            lambda: connection.channel().queue_delete(q, if_unused=True),
        )
        ch.close()
        ch = connection.channel()
        settles(ch, q, 3)
        same(ch.queue_delete(q).method.message_count, 3)
        same(ch.queue_delete(q).method.message_count, 0, "deleting what is gone is no error")
        x, q = exchange(ch, "fanout"), queue(ch)
        ch.queue_bind(q, x)
        refused(
            406,
            f"PRECONDITION_FAILED - exchange '{x}' in vhost '/' in use",
            lambda: connection.channel().exchange_delete(x, if_unused=True),
        )
        ch = connection.channel()
        ch.exchange_delete(x)
        ch.exchange_delete(x)


@case("purge counts what it took, and leaves what is out for delivery")
def purge():
    with channel() as ch:
        q = queue(ch)
        for body in range(5):
            put(ch, q, str(body).encode())
        out = get(ch, q, ack=False)
        settles(ch, q, 4)
        same(ch.queue_purge(q).method.message_count, 4)
        ch.basic_nack(out[0].delivery_tag, requeue=True)
        same(bodies(ch, q, 1), [b"0"])


@case("binding what is not there is refused by name")
def binding_nowhere():
    with connected() as connection:
        q, x = name(), name("x")
        refused(
            404,
            f"NOT_FOUND - no queue '{q}' in vhost '/'",
            lambda: connection.channel().queue_bind(q, "amq.direct", "k"),
        )
        mine = queue(connection.channel())
        refused(
            404,
            f"NOT_FOUND - no exchange '{x}' in vhost '/'",
            lambda: connection.channel().queue_bind(mine, x, "k"),
        )
        # Undoing what was never done is no error.
        connection.channel().queue_unbind(mine, "amq.direct", "never bound")


@case("arguments that make no sense are refused by name")
def wrong_arguments():
    for argument, value in (
        ("x-message-ttl", "soon"),
        ("x-message-ttl", -1),
        ("x-max-length", -5),
        ("x-expires", 0),
        ("x-max-priority", 256),
        ("x-overflow", "explode"),
        ("x-dead-letter-exchange", 7),
    ):
        with connected() as connection:
            q = name()
            text = f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{q}' in vhost '/'"
            if argument == "x-dead-letter-exchange":
                text = f"PRECONDITION_FAILED - invalid type 'signedint' for arg '{argument}' in queue '{q}'"
            refused(406, text, lambda: connection.channel().queue_declare(q, arguments={argument: value}))


# ---- publishing


@case("every property and every type in the headers comes back as it went")
def properties():
    with channel() as ch:
        q = queue(ch)
        given = {
            "text": "grüße",
            "int": 7,
            "negative": -3,
            "big": 2**40,
            "bool": True,
            "none": None,
            "list": [1, "two", [3, None]],
            "table": {"inner": {"deep": False}},
            "bytes": b"\x00\xff",
        }
        sent = pika.BasicProperties(
            content_type="application/x-thing",
            content_encoding="gzip",
            headers=given,
            delivery_mode=2,
            priority=9,
            correlation_id="corr",
            reply_to="reply",
            expiration="60000",
            message_id="id-1",
            timestamp=1_700_000_000,
            type="kind",
            user_id=urlsplit(URL).username or "guest",
            app_id="app",
            cluster_id="cluster",
        )
        ch.basic_publish("", q, b"", sent)
        method, found, body = get(ch, q)
        same(body, b"")
        same((method.exchange, method.routing_key, method.redelivered), ("", q, False))
        for key, value in vars(sent).items():
            if key != "headers":
                same(getattr(found, key), value, key)
        same(dict(found.headers, bytes=bytes(found.headers["bytes"])), given)
        ch.basic_publish("", q, b"bare")
        same(get(ch, q)[1].headers, None)


@case("a user id that is another's is refused")
def user_id():
    with connected() as connection:

        def act():
            ch = connection.channel()
            q = queue(ch)
            put(ch, q, b"no", user_id="somebody-else")
            ch.queue_declare(q, passive=True)

        refused(406, "PRECONDITION_FAILED - user_id property set to 'somebody-else' but authenticated", act)


@case("bodies of many frames arrive whole, byte for byte")
def large():
    with channel() as ch:
        q = queue(ch)
        random.seed(7)
        sizes = [0, 1, 131_063, 131_064, 131_065, 262_128, 1_000_000, 5_000_000]
        sent = [random.randbytes(size) for size in sizes]
        for body in sent:
            put(ch, q, body)
        for body in sent:
            found = get(ch, q, longest=10)[2]
            assert found == body, f"a body of {len(body)} came back as {len(found)} or changed"


@case("order is kept from one publisher to one queue")
def order():
    with channel() as ch:
        q = queue(ch)
        for number in range(2000):
            put(ch, q, str(number).encode())
        same([int(body) for body in bodies(ch, q, 2000)], list(range(2000)))


@case("confirms: each publish is confirmed, also what no queue wanted")
def confirms():
    with channel() as ch:
        ch.confirm_delivery()
        q = queue(ch, durable=True)
        for number in range(100):
            ch.basic_publish("", q, str(number).encode(), PERSISTENT)
        ch.basic_publish("amq.direct", name("nobody"), b"unwanted")
        same(len(bodies(ch, q, 100)), 100)
        ch.queue_delete(q)


@case("mandatory: what no queue wanted comes back with 312 before its confirm")
def mandatory():
    with connected() as connection:
        ch = connection.channel()
        ch.confirm_delivery()
        key = name("nobody")
        try:
            ch.basic_publish("amq.direct", key, b"back", pika.BasicProperties(type="t"), mandatory=True)
        except UnroutableError as error:
            (returned,) = error.messages
            same((returned.method.reply_code, returned.method.reply_text), (312, "NO_ROUTE"))
            same((returned.method.exchange, returned.method.routing_key), ("amq.direct", key))
            same((returned.properties.type, returned.body), ("t", b"back"))
        else:
            raise AssertionError("not returned")
        # Without confirms it comes back as well.
        ch = connection.channel()
        back = []
        ch.add_on_return_callback(lambda *what: back.append(what[3]))
        ch.basic_publish("", name(), b"lost", mandatory=True)
        until("the return", lambda: connection.process_data_events(0.1) or back)
        same(back, [b"lost"])
        q = queue(ch)
        ch.basic_publish("", q, b"wanted", mandatory=True)
        same(bodies(ch, q, 1), [b"wanted"])
        same(back, [b"lost"])


@case("immediate is refused, as it was given up")
def immediate():
    with connected() as connection:

        def act():
            ch = connection.channel()
            # The client offers it no more, so it is said by its lower half.
            ch._impl._send_method(
                spec.Basic.Publish(exchange="", routing_key="x", immediate=True),
                (pika.BasicProperties(), b"now"),
            )
            ch.queue_declare("", exclusive=True)

        dropped(540, "NOT_IMPLEMENTED - immediate=true", act)


@case("CC and BCC reach further queues; BCC is not seen")
def copies():
    with channel() as ch:
        a, b, c = queue(ch), queue(ch), queue(ch)
        put(ch, a, b"all three", headers={"CC": [b], "BCC": [c]})
        for q in (a, b, c):
            _, found, body = get(ch, q)
            same((body, found.headers), (b"all three", {"CC": [b]}))


# ---- taking and settling


@case("get: empty, the count behind, tags that rise, redelivered")
def basic_get():
    with channel() as ch:
        q = queue(ch)
        same(take(ch, q), None)
        for body in (b"a", b"b", b"c"):
            put(ch, q, body)
        settles(ch, q, 3)
        first = get(ch, q, ack=False)
        second = get(ch, q, ack=False)
        same((first[0].message_count, second[0].message_count), (2, 1))
        same((first[0].delivery_tag, second[0].delivery_tag), (1, 2))
        ch.basic_nack(first[0].delivery_tag, requeue=True)
        again = get(ch, q, ack=False)
        same((again[2], again[0].redelivered), (b"a", True))
        ch.basic_ack(again[0].delivery_tag)
        ch.basic_ack(second[0].delivery_tag)
        same(bodies(ch, q, 1), [b"c"])


@case("a consumer gets what is there and what comes, with its tag and key")
def consume():
    with connected() as connection:
        ch = connection.channel()
        q, x = queue(ch), exchange(ch, "direct")
        ch.queue_bind(q, x, "k")
        put(ch, x, b"before", key="k")
        got = []
        tag = ch.basic_consume(q, lambda *what: got.append(what), consumer_tag="mine")
        same(tag, "mine")
        put(ch, x, b"after", key="k")
        until("two deliveries", lambda: connection.process_data_events(0.1) or len(got) == 2)
        for (_, method, _, body), expected in zip(got, (b"before", b"after")):
            same((body, method.consumer_tag), (expected, "mine"))
            same((method.exchange, method.routing_key, method.redelivered), (x, "k", False))
        ch.basic_ack(got[1][1].delivery_tag, multiple=True)
        ch.basic_cancel(tag)
        same(depth(ch, q), 0)
        ch.exchange_delete(x)


@case("consumer tags: the server's own, and one twice is refused")
def consumer_tags():
    with connected() as connection:
        ch = connection.channel()
        q = queue(ch)
        ch.basic_consume(q, lambda *_: None, consumer_tag="twice")

        def act():
            ch._impl._send_method(spec.Basic.Consume(queue=q, consumer_tag="twice"))
            ch.queue_declare(q, passive=True)

        dropped(530, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'", act)


@case("consuming what is not there is refused")
def consume_nowhere():
    with connected() as connection:
        q = name()
        text = f"NOT_FOUND - no queue '{q}' in vhost '/'"
        refused(404, text, lambda: connection.channel().basic_consume(q, lambda *_: None))
        refused(404, text, lambda: connection.channel().basic_get(q))
        refused(404, text, lambda: connection.channel().queue_purge(q))


@case("an exclusive consumer is alone")
def exclusive_consumer():
    with connected() as connection:
        q = queue(connection.channel())
        first = connection.channel()
        tag = first.basic_consume(q, lambda *_: None, exclusive=True)
        text = f"ACCESS_REFUSED - queue '{q}' in vhost '/' in exclusive use"
        refused(403, text, lambda: connection.channel().basic_consume(q, lambda *_: None))
        first.basic_cancel(tag)
        first.basic_consume(q, lambda *_: None)
        refused(403, text, lambda: connection.channel().basic_consume(q, lambda *_: None, exclusive=True))


@case("acks of several at once, of all, and of what is not known")
def acks():
    with connected() as connection:
        ch = connection.channel()
        q = queue(ch)
        for number in range(10):
            put(ch, q, str(number).encode())
        tags = [get(ch, q, ack=False)[0].delivery_tag for _ in range(10)]
        ch.basic_ack(tags[4], multiple=True)
        ch.basic_nack(tags[7], multiple=True, requeue=True)
        same([body for body in (get(ch, q)[2] for _ in range(3))], [b"5", b"6", b"7"])
        ch.basic_ack(0, multiple=True)  # 0 is all that is out
        refused(
            406,
            "PRECONDITION_FAILED - unknown delivery tag 99",
            lambda: (ch.basic_ack(99), ch.queue_declare(q, passive=True)),
        )
        ch = connection.channel()
        same(take(ch, q), None)
        put(ch, q, b"x")
        tag = get(ch, q, ack=False)[0].delivery_tag
        ch.basic_ack(tag)
        refused(
            406,
            f"PRECONDITION_FAILED - unknown delivery tag {tag}",
            lambda: (ch.basic_ack(tag), ch.queue_declare(q, passive=True)),
        )


@case("nack and reject: back in the queue at its old place, or gone")
def nacks():
    with channel() as ch:
        q = queue(ch)
        for number in range(4):
            put(ch, q, str(number).encode())
        held = [get(ch, q, ack=False)[0].delivery_tag for _ in range(3)]
        ch.basic_nack(held[1], requeue=True)
        ch.basic_reject(held[0], requeue=True)
        ch.basic_reject(held[2], requeue=False)
        found = [get(ch, q) for _ in range(3)]
        same([body for _, _, body in found], [b"0", b"1", b"3"])
        same([method.redelivered for method, _, _ in found], [True, True, False])
        same(take(ch, q), None)


@case("what was not settled returns in order when a channel or a connection ends")
def returned():
    with connected() as connection:
        other = connection.channel()
        q = ch_queue = other.queue_declare(name()).method.queue
        try:
            for number in range(6):
                put(other, q, str(number).encode())
            ch = connection.channel()
            for _ in range(4):
                get(ch, q, ack=False)
            ch.close()
            with channel() as far:
                held = [get(far, q, ack=False) for _ in range(5)]
                far.basic_ack(held[2][0].delivery_tag)
            settles(other, q, 5)
            found = [get(other, q) for _ in range(5)]
            same([body for _, _, body in found], [b"0", b"1", b"3", b"4", b"5"])
            same([method.redelivered for method, _, _ in found], [True] * 4 + [False])
        finally:
            connection.channel().queue_delete(ch_queue)


@case("prefetch holds a consumer to so many unsettled messages")
def prefetch():
    with connected() as connection:
        ch = connection.channel()
        q = queue(ch)
        for number in range(20):
            put(ch, q, str(number).encode())
        settles(ch, q, 20)
        ch.basic_qos(prefetch_count=3)
        got = []
        ch.basic_consume(q, lambda *what: got.append(what[1].delivery_tag))
        until("three", lambda: connection.process_data_events(0.1) or len(got) >= 3)
        connection.process_data_events(0.4)
        same(len(got), 3)
        ch.basic_ack(got[0])
        until("one more", lambda: connection.process_data_events(0.1) or len(got) >= 4)
        connection.process_data_events(0.3)
        same(len(got), 4)
        ch.basic_ack(got[3], multiple=True)
        until("three more", lambda: connection.process_data_events(0.1) or len(got) >= 7)
        connection.process_data_events(0.3)
        same(len(got), 7)


@case("prefetch of the channel is shared by its consumers")
def prefetch_shared():
    with connected() as connection:
        ch = connection.channel()
        a, b = queue(ch), queue(ch)
        for number in range(10):
            put(ch, a, b"a")
            put(ch, b, b"b")
        ch.basic_qos(prefetch_count=4, global_qos=True)
        got = []
        for q in (a, b):
            ch.basic_consume(q, lambda *what: got.append(what[1].delivery_tag))
        until("four", lambda: connection.process_data_events(0.1) or len(got) >= 4)
        connection.process_data_events(0.4)
        same(len(got), 4)
        ch.basic_ack(got[-1], multiple=True)
        until("four more", lambda: connection.process_data_events(0.1) or len(got) >= 8)
        connection.process_data_events(0.3)
        same(len(got), 8)


@case("a prefetch in bytes is refused, as it always was")
def prefetch_bytes():
    with connected() as connection:
        dropped(
            540,
            "NOT_IMPLEMENTED - prefetch_size!=0 (1)",
            lambda: connection.channel().basic_qos(prefetch_size=1),
        )


@case("consumers share a queue in turns")
def round_robin():
    with connected() as connection:
        ch = connection.channel()
        q = queue(ch)
        ch.basic_qos(prefetch_count=1)
        got = {"a": [], "b": []}

        def take_one(tag):
            def on(_ch, method, _properties, body):
                got[tag].append(body)
                ch.basic_ack(method.delivery_tag)

            return on

        for tag in got:
            ch.basic_consume(q, take_one(tag), consumer_tag=tag)
        for number in range(40):
            put(ch, q, str(number).encode())
        until("all", lambda: connection.process_data_events(0.1) or sum(map(len, got.values())) == 40)
        assert min(map(len, got.values())) >= 10, got


@case("priorities of consumers: the lower waits while the higher can take")
def consumer_priorities():
    with connected() as connection:
        ch = connection.channel()
        q = queue(ch)
        got = []
        ch.basic_consume(q, lambda *what: got.append("low"), auto_ack=True)
        ch.basic_consume(
            q, lambda *what: got.append("high"), auto_ack=True, arguments={"x-priority": 10}
        )
        for _ in range(20):
            put(ch, q, b"m")
        until("all", lambda: connection.process_data_events(0.1) or len(got) == 20)
        same(set(got), {"high"})


@case("recover gives back what is out")
def recover():
    with connected() as connection:
        ch = connection.channel()
        q = queue(ch)
        for body in (b"a", b"b"):
            put(ch, q, body)
        for _ in range(2):
            get(ch, q, ack=False)
        ch.basic_recover(requeue=True)
        found = [get(ch, q) for _ in range(2)]
        same([(body, method.redelivered) for method, _, body in found], [(b"a", True), (b"b", True)])
        dropped(
            540,
            "NOT_IMPLEMENTED - requeue=false",
            lambda: (ch.basic_recover(requeue=False), ch.queue_declare(q, passive=True)),
        )


@case("cancel: nothing more comes, and what is out stays out")
def cancel():
    with connected() as connection:
        ch = connection.channel()
        q = queue(ch)
        ch.basic_qos(prefetch_count=1)
        got = []
        tag = ch.basic_consume(q, lambda *what: got.append(what[1].delivery_tag))
        put(ch, q, b"1")
        put(ch, q, b"2")
        until("one", lambda: connection.process_data_events(0.1) or got)
        ch.basic_cancel(tag)
        same(depth(ch, q), 1)
        ch.basic_nack(got[0], requeue=True)
        same(bodies(ch, q, 2), [b"1", b"2"])


@case("a consumer is told when its queue is deleted")
def cancel_notify():
    with connected() as connection:
        ch = connection.channel()
        q = queue(ch)
        told = []
        ch.add_on_cancel_callback(lambda frame: told.append(frame.method.consumer_tag))
        tag = ch.basic_consume(q, lambda *_: None)
        connection.channel().queue_delete(q)
        until("the notice", lambda: connection.process_data_events(0.1) or told)
        same(told, [tag])


@case("single active consumer: one takes, the next when it goes")
def single_active():
    with connected() as connection:
        ch, second = connection.channel(), connection.channel()
        q = queue(ch, arguments={"x-single-active-consumer": True})
        got = []
        first_tag = ch.basic_consume(q, lambda *_: got.append("first"), auto_ack=True)
        second.basic_consume(q, lambda *_: got.append("second"), auto_ack=True)
        for _ in range(10):
            put(ch, q, b"m")
        until("ten", lambda: connection.process_data_events(0.1) or len(got) == 10)
        same(set(got), {"first"})
        ch.basic_cancel(first_tag)
        for _ in range(5):
            put(ch, q, b"m")
        until("five more", lambda: connection.process_data_events(0.1) or len(got) == 15)
        same(set(got[10:]), {"second"})


# ---- limits, times, dead letters


def dead_letter_pair(ch, **arguments):
    """A queue whose dead letters go to a second queue by way of an exchange."""
    x = exchange(ch, "direct")
    dead = queue(ch)
    ch.queue_bind(dead, x, "dead")
    q = queue(ch, arguments={"x-dead-letter-exchange": x, "x-dead-letter-routing-key": "dead", **arguments})
    return q, dead, x


def death(found, q, reason, count=1):
    """Checks the newest entry of x-death."""
    entry = found.headers["x-death"][0]
    same((entry["queue"], entry["reason"], entry["count"]), (q, reason, count))
    same((entry["exchange"], entry["routing-keys"]), ("", [q]))
    assert entry["time"], entry
    same(found.headers["x-first-death-queue"], q)
    same(found.headers["x-first-death-reason"], reason)
    same(found.headers["x-first-death-exchange"], "")


@case("rejected: dead-lettered with x-death")
def dead_rejected():
    with channel() as ch:
        q, dead, x = dead_letter_pair(ch)
        put(ch, q, b"bad", headers={"mine": 1}, message_id="m")
        ch.basic_reject(get(ch, q, ack=False)[0].delivery_tag, requeue=False)
        method, found, body = get(ch, dead)
        same((body, method.exchange, method.routing_key), (b"bad", x, "dead"))
        same((found.headers["mine"], found.message_id), (1, "m"))
        death(found, q, "rejected")
        ch.exchange_delete(x)


@case("dead-lettered without a key of its own keeps the message's; a nack of several does all")
def dead_key():
    with channel() as ch:
        x, dead = exchange(ch, "fanout"), queue(ch)
        ch.queue_bind(dead, x)
        q = queue(ch, arguments={"x-dead-letter-exchange": x})
        for number in range(3):
            put(ch, q, str(number).encode())
        held = [get(ch, q, ack=False)[0].delivery_tag for _ in range(3)]
        ch.basic_nack(held[-1], multiple=True, requeue=False)
        found = [get(ch, dead) for _ in range(3)]
        same([(body, method.routing_key) for method, _, body in found], [(b"0", q), (b"1", q), (b"2", q)])
        ch.exchange_delete(x)


@case("dead-lettered again and again counts, and a cycle of rejections goes on")
def dead_again():
    with channel() as ch:
        x, q, dead = exchange(ch, "direct"), name(), name()
        ch.queue_declare(q, exclusive=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
        ch.queue_declare(dead, exclusive=True, arguments={"x-dead-letter-exchange": "", "x-dead-letter-routing-key": q})
        put(ch, q, b"round")
        for _ in range(2):
            for place in (q, dead):
                ch.basic_reject(get(ch, place, ack=False)[0].delivery_tag, requeue=False)
        _, found, _ = get(ch, q)
        entries = {entry["queue"]: entry["count"] for entry in found.headers["x-death"]}
        same(entries, {q: 2, dead: 2})
        same(found.headers["x-death"][0]["queue"], dead, "the newest is first")
        same(found.headers["x-first-death-queue"], q)
        ch.exchange_delete(x)


@case("time to live of a queue's messages: expired, dead-lettered in order")
def queue_ttl():
    with channel() as ch:
        q, dead, x = dead_letter_pair(ch, **{"x-message-ttl": 300})
        for number in range(5):
            put(ch, q, str(number).encode())
        until("all are dead", lambda: depth(ch, dead) == 5)
        same(depth(ch, q), 0)
        found = [get(ch, dead) for _ in range(5)]
        same([body for _, _, body in found], [b"0", b"1", b"2", b"3", b"4"])
        death(found[0][1], q, "expired")
        ch.exchange_delete(x)


@case("time to live of one message: gone in time, the property is taken off")
def message_ttl():
    with channel() as ch:
        q, dead, x = dead_letter_pair(ch)
        put(ch, q, b"short", expiration="200")
        _, found, body = get(ch, dead)
        same((body, found.expiration), (b"short", None))
        death(found, q, "expired")
        same(found.headers["x-death"][0]["original-expiration"], "200")
        put(ch, q, b"long", expiration="60000")
        same(bodies(ch, q, 1), [b"long"])
        ch.exchange_delete(x)


@case("of two times to live the shorter counts; zero is at once")
def shorter_ttl():
    with channel() as ch:
        q = queue(ch, arguments={"x-message-ttl": 300})
        put(ch, q, b"m", expiration="60000")
        settles(ch, q, 0)
        p = queue(ch)
        put(ch, p, b"now or never", expiration="0")
        settles(ch, p, 0)


@case("an expiration that is no number is refused")
def wrong_expiration():
    with connected() as connection:

        def act():
            ch = connection.channel()
            q = queue(ch)
            put(ch, q, b"m", expiration="soon")
            ch.queue_declare(q, passive=True)

        refused(406, "PRECONDITION_FAILED - invalid expiration 'soon'", act)


@case("a queue that nobody uses expires")
def queue_expires():
    with connected() as connection:
        q = connection.channel().queue_declare(name(), arguments={"x-expires": 500}).method.queue

        def gone():
            try:
                connection.channel().queue_declare(q, passive=True)
            except ChannelClosedByBroker as closed:
                return closed.reply_code == 404
            connection.sleep(1.2)  # a look counts as use

        until("the queue is gone", gone)


@case("a limit drops the oldest, and dead-letters it")
def drop_head():
    with channel() as ch:
        q, dead, x = dead_letter_pair(ch, **{"x-max-length": 3})
        for number in range(5):
            put(ch, q, str(number).encode())
        found = [get(ch, dead) for _ in range(2)]
        same([body for _, _, body in found], [b"0", b"1"])
        death(found[0][1], q, "maxlen")
        same(bodies(ch, q, 3), [b"2", b"3", b"4"])
        ch.exchange_delete(x)


@case("a limit in bytes drops the oldest")
def drop_bytes():
    with channel() as ch:
        # Whether a broker counts what stands around the bodies makes no difference here.
        q = queue(ch, arguments={"x-max-length-bytes": 10_000})
        for number in range(4):
            put(ch, q, str(number).encode() * 4_000)
        settles(ch, q, 2)
        same([body[:1] for body in bodies(ch, q, 2)], [b"2", b"3"])


@case("a limit that refuses nacks the publisher, and takes again when there is room")
def reject_publish():
    with channel() as ch:
        q = queue(ch, arguments={"x-max-length": 2, "x-overflow": "reject-publish"})
        ch.confirm_delivery()
        taken = refusals = 0
        for _ in range(6):
            try:
                ch.basic_publish("", q, b"m", PERSISTENT)
                taken += 1
            except NackError:
                refusals += 1
        same((taken, refusals), (2, 4))
        same(len(bodies(ch, q, 2)), 2)
        ch.basic_publish("", q, b"again")
        same(bodies(ch, q, 1), [b"again"])


@case("a limit that refuses dead-letters what it refused when told to")
def reject_publish_dlx():
    with channel() as ch:
        q, dead, x = dead_letter_pair(ch, **{"x-max-length": 1, "x-overflow": "reject-publish-dlx"})
        ch.confirm_delivery()
        ch.basic_publish("", q, b"kept")
        try:
            ch.basic_publish("", q, b"refused")
        except NackError:
            pass
        else:
            raise AssertionError("not refused")
        same(bodies(ch, dead, 1), [b"refused"])
        same(bodies(ch, q, 1), [b"kept"])
        ch.exchange_delete(x)


@case("priorities: higher first, each in order, above the most is the most")
def priorities():
    with channel() as ch:
        q = queue(ch, arguments={"x-max-priority": 5})
        for body, priority in ((b"a", 1), (b"b", 5), (b"c", None), (b"d", 3), (b"e", 5), (b"f", 200), (b"g", 1)):
            put(ch, q, body, priority=priority)
        settles(ch, q, 7)
        same(b"".join(bodies(ch, q, 7)), b"befdagc")


@case("a quorum queue counts deliveries and dead-letters past its limit")
def delivery_limit():
    with channel() as ch:
        x, dead, q = exchange(ch, "fanout"), queue(ch), name()
        ch.queue_bind(dead, x)
        ch.queue_declare(
            q,
            durable=True,
            arguments={"x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": x},
        )
        try:
            put(ch, q, b"poison", delivery_mode=2)
            for count in range(3):
                method, found, _ = get(ch, q, ack=False)
                same((found.headers or {}).get("x-delivery-count", 0), count)
                ch.basic_reject(method.delivery_tag, requeue=True)
            _, found, body = get(ch, dead)
            same(body, b"poison")
            same(found.headers["x-death"][0]["reason"], "delivery_limit")
        finally:
            ch.queue_delete(q)
            ch.exchange_delete(x)


# ---- transactions


@case("a commit publishes and settles together, a rollback forgets both")
def transactions():
    with connected() as connection:
        ch, looking = connection.channel(), connection.channel()
        source, target = queue(looking), queue(looking)
        for body in (b"1", b"2"):
            put(looking, source, body)
        ch.tx_select()
        for ending in (ch.tx_rollback, ch.tx_commit):
            method, _, _ = get(ch, source, ack=False)
            put(ch, target, b"answer", delivery_mode=2)
            ch.basic_ack(method.delivery_tag)
            same(looking.queue_declare(target, passive=True).method.message_count, 0)
            ending()
        settles(looking, target, 1)
        ch.close()
        # What was rolled back was unsettled when its channel ended.
        settles(looking, source, 1)


@case("transactions are held to their rules")
def transaction_rules():
    with connected() as connection:
        ch = connection.channel()
        refused(406, "PRECONDITION_FAILED - channel is not transactional", ch.tx_commit)
        ch = connection.channel()
        refused(406, "PRECONDITION_FAILED - channel is not transactional", ch.tx_rollback)
        ch = connection.channel()
        ch.confirm_delivery()
        text = "PRECONDITION_FAILED - cannot switch from confirm to tx mode"
        refused(406, text, ch.tx_select)
        ch = connection.channel()
        ch.tx_select()
        ch.tx_select()
        text = "PRECONDITION_FAILED - cannot switch from tx to confirm mode"
        refused(406, text, ch.confirm_delivery)


# ---- request and reply


@case("direct reply-to: an answer without a queue")
def direct_reply():
    with connected() as connection, connected() as server_side:
        q = name()
        server = server_side.channel()
        server.queue_declare(q, exclusive=True)

        def serve(ch, method, found, body):
            ch.basic_publish("", found.reply_to, body[::-1], pika.BasicProperties(correlation_id=found.correlation_id))

        server.basic_consume(q, serve, auto_ack=True)
        client = connection.channel()
        got = []
        client.basic_consume("amq.rabbitmq.reply-to", lambda *what: got.append(what), auto_ack=True)
        for number in range(3):
            client.basic_publish(
                "", q, f"abc{number}".encode(),
                pika.BasicProperties(reply_to="amq.rabbitmq.reply-to", correlation_id=str(number)),
            )
        until(
            "three answers",
            lambda: server_side.process_data_events(0.05)
            or connection.process_data_events(0.05)
            or len(got) == 3,
        )
        same([(what[2].correlation_id, what[3]) for what in got], [("0", b"0cba"), ("1", b"1cba"), ("2", b"2cba")])


@case("direct reply-to is held to its rules")
def direct_reply_rules():
    with connected() as connection:
        refused(
            406,
            "PRECONDITION_FAILED - reply consumer cannot acknowledge",
            lambda: connection.channel().basic_consume("amq.rabbitmq.reply-to", lambda *_: None),
        )

        def act():
            ch = connection.channel()
            ch.basic_publish("", "x", b"", pika.BasicProperties(reply_to="amq.rabbitmq.reply-to"))
            ch.queue_declare("", exclusive=True)

        refused(406, "PRECONDITION_FAILED - fast reply consumer does not exist", act)


# ---- many at once


@case("ten publishers and ten consumers lose nothing and double nothing")
def crowd():
    q, each = name(), 300
    with channel() as ch:
        ch.queue_declare(q, durable=True)
    faults, got, lock, done = [], [], threading.Lock(), threading.Event()

    def publish(who):
        try:
            with channel() as ch:
                ch.confirm_delivery()
                for number in range(each):
                    ch.basic_publish("", q, json.dumps([who, number]).encode(), PERSISTENT)
        except Exception as error:
            faults.append(repr(error))

    def work():
        try:
            with channel() as ch:
                ch.basic_qos(prefetch_count=20)
                for method, _, body in ch.consume(q, inactivity_timeout=0.2):
                    if method:
                        with lock:
                            got.append(tuple(json.loads(body)))
                        ch.basic_ack(method.delivery_tag)
                    if done.is_set() and not method:
                        break
                ch.cancel()
        except Exception as error:
            faults.append(repr(error))

    publishers = [threading.Thread(target=publish, args=(who,), daemon=True) for who in range(10)]
    workers = [threading.Thread(target=work, daemon=True) for _ in range(10)]
    for thread in publishers + workers:
        thread.start()
    for thread in publishers:
        thread.join(30)
    done.set()
    for thread in workers:
        thread.join(30)
    with channel() as ch:
        ch.queue_delete(q)
    same(faults, [])
    same(len(got), 10 * each, "deliveries")
    same(len(set(got)), 10 * each, "distinct ones")


@case("the connection closes politely, from either side of a channel")
def closing():
    connection = pika.BlockingConnection(parameters())
    ch = connection.channel()
    ch.close()
    assert ch.is_closed
    connection.close()
    assert connection.is_closed
    try:
        connection.channel()
    except (AMQPConnectionError, pika.exceptions.ConnectionWrongStateError):
        pass
    else:
        raise AssertionError("a closed connection gave a channel")


main()

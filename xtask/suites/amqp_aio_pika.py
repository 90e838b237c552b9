"""AMQP 0-9-1 by aio-pika: the asynchronous way of Python, with robust connections that come back.

usage: AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2F amqp_aio_pika.py; the last line is `PASSED n/m`.
"""

import asyncio
import contextlib
import datetime
import os

import aio_pika
from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.exceptions import (
    AMQPConnectionError,
    ChannelNotFoundEntity,
    ChannelPreconditionFailed,
    DeliveryError,
    PublishError,
    QueueEmpty,
)
from aio_pika.patterns import RPC, Master
from aiormq.exceptions import ChannelLockedResource, ChannelAccessRefused
from yarl import URL as Address

from amqp_report import URL, begins, case, main, name, same


@contextlib.asynccontextmanager
async def channel(**options):
    connection = await aio_pika.connect(URL)
    async with connection:
        yield await connection.channel(**options)


async def eventually(what, ask, longest=10.0):
    end = asyncio.get_running_loop().time() + longest
    while True:
        found = await ask()
        if found:
            return found
        if asyncio.get_running_loop().time() > end:
            raise AssertionError(f"{what}: not within {longest} s")
        await asyncio.sleep(0.02)


async def queue(ch, **options):
    options.setdefault("exclusive", True)
    return await ch.declare_queue(name(), **options)


async def put(ch, where, body, **properties):
    await ch.default_exchange.publish(Message(body, **properties), where.name)


async def get(where, **options):
    async def ask():
        with contextlib.suppress(QueueEmpty):
            return await where.get(**options)

    return await eventually("a message", ask, 5)


async def bodies(where, count):
    found = [(await get(where, no_ack=True)).body for _ in range(count)]
    same(await where.get(no_ack=True, fail=False), None, "one message too many")
    return found


async def refused(kind, text, awaitable):
    try:
        await awaitable
    except kind as error:
        begins(error.args[0] if error.args else error, text)
        return
    raise AssertionError(f"not refused with {text}")


@case("connect, many channels at once, close")
async def connecting():
    connection = await aio_pika.connect(URL)
    channels = await asyncio.gather(*(connection.channel() for _ in range(40)))
    await asyncio.gather(*(queue(ch) for ch in channels))
    await connection.close()
    assert connection.is_closed


@case("a wrong password is refused")
async def wrong_password():
    try:
        await aio_pika.connect(str(Address(URL).with_password("wrong")))
    except AMQPConnectionError as error:
        assert "ACCESS_REFUSED" in str(error), error
    else:
        raise AssertionError("let in")


@case("errors name what is wrong")
async def errors():
    async with channel() as ch:
        q = name()
        await refused(ChannelNotFoundEntity, f"NOT_FOUND - no queue '{q}' in vhost '/'", ch.declare_queue(q, passive=True))
    async with channel() as ch:
        q = name()
        await ch.declare_queue(q, auto_delete=True)
        await refused(
            ChannelPreconditionFailed,
            f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{q}' in vhost '/': "
            "received 'true' but current is 'false'",
            ch.declare_queue(q, durable=True, auto_delete=True),
        )
    async with channel() as mine, channel() as other:
        q = await queue(mine)
        await refused(
            ChannelLockedResource,
            f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{q.name}' in vhost '/'",
            other.declare_queue(q.name, passive=True),
        )
    async with channel() as mine, channel() as other:
        q = await queue(mine, exclusive=False, auto_delete=True)
        await q.consume(lambda _: None, exclusive=True)
        again = await other.get_queue(q.name)
        await refused(
            ChannelAccessRefused,
            f"ACCESS_REFUSED - queue '{q.name}' in vhost '/' in exclusive use",
            again.consume(lambda _: None),
        )
    async with channel() as ch:
        await refused(ChannelNotFoundEntity, "NOT_FOUND - no exchange 'nope' in vhost '/'", ch.get_exchange("nope"))


@case("exchanges of each type, and exchange to exchange")
async def exchanges():
    async with channel() as ch:
        for kind, key, arguments, trials in (
            (ExchangeType.DIRECT, "a", {}, (("a", {}, True), ("b", {}, False))),
            (ExchangeType.FANOUT, "", {}, (("a", {}, True),)),
            (ExchangeType.TOPIC, "a.*.#", {}, (("a.b.c", {}, True), ("a", {}, False))),
            (ExchangeType.HEADERS, "", {"x-match": "all", "n": 1.5}, (("", {"n": 1.5}, True), ("", {}, False))),
        ):
            inner = await ch.declare_exchange(name("x"), kind, auto_delete=True)
            outer = await ch.declare_exchange(name("x"), ExchangeType.FANOUT)
            await inner.bind(outer)
            q = await queue(ch)
            await q.bind(inner, key, arguments=arguments)
            for routing, headers, expected in trials:
                for x in (inner, outer):
                    await x.publish(Message(b"m", headers=headers), routing, mandatory=False)
                    found = await q.get(no_ack=True, fail=False)
                    same(found is not None, expected, f"{kind} {routing} {headers}")
            await outer.delete()


@case("confirms, a thousand in flight, and all arrive in order")
async def confirms():
    async with channel() as ch:
        q = await queue(ch, durable=True, exclusive=False)
        sent = [
            ch.default_exchange.publish(Message(str(n).encode(), delivery_mode=DeliveryMode.PERSISTENT), q.name)
            for n in range(1000)
        ]
        await asyncio.gather(*sent)
        await ch.set_qos(prefetch_count=100)
        got = []
        async with q.iterator() as messages:
            async for message in messages:
                async with message.process():
                    got.append(int(message.body))
                if len(got) == 1000:
                    break
        same(got, list(range(1000)))
        await q.delete(if_unused=False, if_empty=False)


@case("mandatory is an error to the publisher; without it, it is not")
async def mandatory():
    async with channel(on_return_raises=True) as ch:
        try:
            await ch.default_exchange.publish(Message(b"lost"), name())
        except PublishError as error:
            same((error.message.delivery.reply_code, error.message.body), (312, b"lost"))
        else:
            raise AssertionError("not returned")
        await ch.default_exchange.publish(Message(b"lost"), name(), mandatory=False)


@case("a full queue that refuses is an error to the publisher")
async def refuses():
    async with channel() as ch:
        q = await queue(ch, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        await put(ch, q, b"first")
        try:
            await put(ch, q, b"second")
        except DeliveryError:
            pass
        else:
            raise AssertionError("taken")
        same(await bodies(q, 1), [b"first"])


@case("properties and headers come back as they went")
async def properties():
    async with channel() as ch:
        q = await queue(ch)
        at = datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)
        headers = {"s": "grüße", "i": -1, "f": 0.25, "b": True, "n": None, "l": [1, "x"], "t": {"a": {"b": 2}}, "at": at}
        sent = Message(
            b"{}", headers=headers, content_type="application/json", content_encoding="utf-8",
            delivery_mode=DeliveryMode.PERSISTENT, priority=4, correlation_id="c", reply_to="r",
            expiration=60, message_id="m", timestamp=at, type="t", app_id="a",
        )
        await ch.default_exchange.publish(sent, q.name)
        found = await get(q, no_ack=True)
        same(dict(found.headers), headers)
        for key in ("content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "reply_to",
                    "expiration", "message_id", "timestamp", "type", "app_id"):
            same(getattr(found, key), getattr(sent, key), key)


@case("a body of several frames")
async def large():
    async with channel() as ch:
        q = await queue(ch)
        body = os.urandom(3_000_000)
        await put(ch, q, body)
        same((await get(q, no_ack=True)).body == body, True, "the same body")


@case("nack back, reject to a dead letter with x-death")
async def dead():
    async with channel() as ch:
        x = await ch.declare_exchange(name("x"), ExchangeType.FANOUT, auto_delete=True)
        letters = await queue(ch)
        await letters.bind(x)
        q = await queue(ch, arguments={"x-dead-letter-exchange": x.name})
        await put(ch, q, b"m")
        await (await get(q)).nack(requeue=True)
        again = await get(q)
        same(again.redelivered, True)
        await again.reject(requeue=False)
        found = await get(letters, no_ack=True)
        entry = found.headers["x-death"][0]
        same((entry["reason"], entry["queue"], entry["count"], entry["routing-keys"]), ("rejected", q.name, 1, [q.name]))
        await put(ch, q, b"short", expiration=0.1)
        same((await get(letters, no_ack=True)).headers["x-death"][0]["reason"], "expired")


@case("ack of several at once")
async def multiple():
    async with channel() as ch:
        q = await queue(ch, exclusive=False, auto_delete=True)
        for n in range(5):
            await put(ch, q, str(n).encode())
        held = [await get(q) for _ in range(5)]
        await held[3].ack(multiple=True)
        await held[4].nack(requeue=True)
        same(await bodies(q, 1), [b"4"])


@case("priorities, limits, single active consumer")
async def kinds():
    async with channel() as ch:
        q = await queue(ch, arguments={"x-max-priority": 3, "x-max-length": 3})
        for body, priority in ((b"a", 0), (b"b", 3), (b"c", 1)):
            await put(ch, q, body, priority=priority)
        same(await bodies(q, 3), [b"b", b"c", b"a"])
        single = await queue(ch, arguments={"x-single-active-consumer": True})
        got = []
        tags = [await single.consume(lambda _, who=who: got.append(who), no_ack=True) for who in (1, 2)]
        for _ in range(3):
            await put(ch, single, b"m")

        async def have(count):
            return len(got) == count

        await eventually("three", lambda: have(3))
        await single.cancel(tags[0])
        await put(ch, single, b"m")
        await eventually("four", lambda: have(4))
        same(got, [1, 1, 1, 2])


@case("prefetch holds a consumer back")
async def prefetch():
    async with channel() as ch:
        q = await queue(ch)
        for _ in range(10):
            await put(ch, q, b"m")
        await ch.set_qos(prefetch_count=2)
        got = []
        await q.consume(got.append)
        await asyncio.sleep(0.6)
        same(len(got), 2)
        await got[0].ack()
        await asyncio.sleep(0.4)
        same(len(got), 3)


@case("an alternate exchange takes what finds no queue; an internal one takes no publish")
async def alternate():
    async with channel() as ch:
        rest = await ch.declare_exchange(name("x"), ExchangeType.FANOUT, auto_delete=True)
        x = await ch.declare_exchange(
            name("x"), ExchangeType.DIRECT, auto_delete=True, arguments={"alternate-exchange": rest.name}
        )
        known, lost = await queue(ch), await queue(ch)
        await known.bind(x, "known")
        await lost.bind(rest)
        await x.publish(Message(b"1"), "known")
        await x.publish(Message(b"2"), "strange")
        same((await bodies(known, 1), await bodies(lost, 1)), ([b"1"], [b"2"]))


@case("time to live of a queue, dead-lettered in order; drop-head counts as maxlen")
async def times():
    async with channel() as ch:
        dead = await queue(ch)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead.name}
        brief = await queue(ch, arguments={"x-message-ttl": 200, **arguments})
        for n in range(3):
            await put(ch, brief, str(n).encode())
        found = [await get(dead, no_ack=True) for _ in range(3)]
        same([message.body for message in found], [b"0", b"1", b"2"])
        same({message.headers["x-first-death-reason"] for message in found}, {"expired"})
        short = await queue(ch, arguments={"x-max-length": 1, **arguments})
        await put(ch, short, b"old")
        await put(ch, short, b"new")
        found = await get(dead, no_ack=True)
        same((found.body, found.headers["x-death"][0]["reason"]), (b"old", "maxlen"))
        same(await bodies(short, 1), [b"new"])


@case("server-named, auto-delete and expiring queues")
async def lives():
    async with channel() as ch:
        named = await ch.declare_queue(exclusive=True)
        begins(named.name, "amq.gen-")
        q = await queue(ch, exclusive=False, auto_delete=True)
        tag = await q.consume(lambda _: None)
        await q.cancel(tag)
        await refused(ChannelNotFoundEntity, "NOT_FOUND", ch.declare_queue(q.name, passive=True))
    async with channel() as ch:
        q = await queue(ch, exclusive=False, arguments={"x-expires": 300})
        await asyncio.sleep(1.5)
        await refused(ChannelNotFoundEntity, "NOT_FOUND", ch.declare_queue(q.name, passive=True))


@case("direct reply-to: many calls at once, each its own answer")
async def direct_reply():
    async with channel() as served, channel(publisher_confirms=False) as asked:
        q = await queue(served, exclusive=False, auto_delete=True)

        async def serve(message):
            answer = Message(message.body[::-1], correlation_id=message.correlation_id)
            await served.default_exchange.publish(answer, message.reply_to)

        await q.consume(serve, no_ack=True)
        answers, all_there = {}, asyncio.Event()

        async def heard(message):
            answers[message.correlation_id] = message.body
            if len(answers) == 50:
                all_there.set()

        replies = await asked.get_queue("amq.rabbitmq.reply-to", ensure=False)
        await replies.consume(heard, no_ack=True)
        for n in range(50):
            await put(asked, q, f"call{n}".encode(), reply_to="amq.rabbitmq.reply-to", correlation_id=str(n))
        await asyncio.wait_for(all_there.wait(), 10)
        same(answers, {str(n): f"call{n}".encode()[::-1] for n in range(50)})


@case("a consumer is told when its queue is deleted")
async def cancelled():
    async with channel() as ch, channel() as other:
        q = await queue(ch, exclusive=False)
        underlay = await ch.get_underlay_channel()
        await q.consume(lambda _: None, consumer_tag="told")
        same("told" in underlay.consumers, True, "it consumes")
        await other.queue_delete(q.name)

        async def gone():
            return "told" not in underlay.consumers

        await eventually("the notice", gone)


@case("purge, delete, counts")
async def counts():
    async with channel() as ch:
        q = await queue(ch, exclusive=False)
        for _ in range(4):
            await put(ch, q, b"m")
        found = await ch.declare_queue(q.name, passive=True)
        same((found.declaration_result.message_count, found.declaration_result.consumer_count), (4, 0))
        same((await q.purge()).message_count, 4)
        await put(ch, q, b"m")
        same((await q.delete(if_unused=False, if_empty=False)).message_count, 1)


@case("remote calls over reply queues, results and exceptions")
async def calls():
    async with channel() as served, channel() as asked:
        server, client = await RPC.create(served), await RPC.create(asked)

        async def add(*, a, b):
            if b == 0:
                raise ValueError("nothing to add")
            return a + b

        method = name("rpc")
        await server.register(method, add, auto_delete=True)
        same(await asyncio.gather(*(client.call(method, kwargs={"a": n, "b": 1}) for n in range(50))), list(range(1, 51)))
        try:
            await client.call(method, kwargs={"a": 1, "b": 0})
        except ValueError as error:
            same(str(error), "nothing to add")
        else:
            raise AssertionError("no exception came over")


@case("tasks shared out among workers")
async def tasks():
    async with channel() as ch:
        await ch.set_qos(prefetch_count=5)
        master, queue_name, done = Master(ch), name("task"), []

        async def work(*, number):
            done.append(number)

        workers = [await master.create_worker(queue_name, work, auto_delete=True) for _ in range(3)]
        await asyncio.gather(*(master.create_task(queue_name, kwargs={"number": n}) for n in range(100)))

        async def all_done():
            return len(done) == 100

        await eventually("all tasks", all_done)
        same(sorted(done), list(range(100)))
        for worker in workers:
            await worker.close()


class Cable:
    """A way to the broker that can be cut."""

    def __init__(self):
        self.ends = []

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.carry, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]
        self.url = str(Address(URL).with_host("127.0.0.1").with_port(port))
        return self

    async def __aexit__(self, *_):
        self.cut()
        self.server.close()

    async def carry(self, reader, writer):
        there, back = await asyncio.open_connection(Address(URL).host, Address(URL).port or 5672)
        self.ends += [writer, back]

        async def one_way(source, sink):
            with contextlib.suppress(OSError):
                while raw := await source.read(65536):
                    sink.write(raw)
                    await sink.drain()
            sink.close()

        await asyncio.gather(one_way(reader, back), one_way(there, writer))

    def cut(self):
        for end in self.ends:
            end.transport.abort()
        self.ends = []


@case("a robust connection that was cut comes back with its queues and consumers")
async def robust():
    async with Cable() as cable:
        connection = await aio_pika.connect_robust(cable.url, reconnect_interval=0.2)
        ch = await connection.channel()
        q = await ch.declare_queue(name(), durable=False, auto_delete=False, exclusive=False)
        got = asyncio.Queue()
        await q.consume(got.put, no_ack=True)
        await put(ch, q, b"before")
        same((await asyncio.wait_for(got.get(), 5)).body, b"before")
        cable.cut()

        async def again():
            with contextlib.suppress(Exception):
                await asyncio.wait_for(put(ch, q, b"after"), 2)
                return (await asyncio.wait_for(got.get(), 1)).body == b"after"

        await eventually("the consumer is back", again, 15)
        await asyncio.wait_for(q.delete(if_unused=False, if_empty=False), 5)
        await connection.close()


main()

"""Whether a broker keeps its word when it is killed, again and again, while publishers and consumers go on.

usage: kill.py [--rounds N] [--arguments JSON] [--url AMQP_URL] -- COMMAND…
       kill.py --rabbitmq [--rounds N]

COMMAND starts the server in the foreground on what it left behind. In each round it is started, worked
with for a random while over AMQP 0-9-1, and killed with SIGKILL, with its whole process tree. At the end it
is started once more, everything is taken out, and judged from outside, by what the clients were told:

- every message that was confirmed is there, unless it was accepted, byte for byte as it was published;
- nothing is there that nobody published;
- what one publisher had confirmed comes in its order, however often the server was killed in between;
- what was accepted, and whose acceptance the server has answered something after, does not come back.

An acceptance is not answered in AMQP. It counts as taken in once an answer has come to what was said after
it on the same channel, and the server had a moment (`--settle` seconds) to put it on disk.

The last line is `PASSED n/m`, the rounds that kept their word and those that were asked for.
"""

import argparse
import collections
import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pika

QUEUE = "kill"
PERSISTENT = pika.BasicProperties(delivery_mode=2)


def body_of(seed, publisher, number):
    """What a message holds follows from who published it and its number."""
    size = int.from_bytes(hashlib.blake2b(f"{seed} {publisher} {number}".encode(), digest_size=2).digest(), "big")
    # Most are small, some take several frames.
    size = size % 300 if size % 50 else size * 5
    filler = hashlib.shake_128(f"{seed} {publisher} {number} body".encode()).digest(size)
    return f"{publisher} {number} ".encode() + filler


def whose(body):
    publisher, number, _ = body.split(b" ", 2)
    return int(publisher), int(number)


class Ledger:
    """What the clients know, which is what the server is held to."""

    def __init__(self):
        self.lock = threading.Lock()
        self.published = collections.Counter()  # by publisher: numbers below were sent
        self.confirmed = collections.defaultdict(set)  # by publisher: numbers
        self.accepted = set()  # for good
        self.perhaps = set()  # accepted, and the server may not know
        self.faults = []

    def fault(self, what):
        with self.lock:
            self.faults.append(what)


class Publisher(threading.Thread):
    """Publishes with many unconfirmed, on one connection at a time; goes on where it was cut off."""

    def __init__(self, world, number):
        super().__init__(daemon=True)
        self.world, self.number = world, number

    def run(self):
        world = self.world
        while not world.over.is_set():
            try:
                self.work()
            except Exception:
                # The server is gone, as it should be now and then.
                world.wait_for_server()

    def work(self):
        world, ledger = self.world, self.world.ledger
        connection = pika.SelectConnection(world.parameters(), on_open_callback=self.opened)
        self.in_flight, self.tag, self.channel = collections.OrderedDict(), 0, None
        connection.add_on_open_error_callback(lambda *_: connection.ioloop.stop())
        connection.add_on_close_callback(lambda *_: connection.ioloop.stop())
        self.connection = connection
        connection.ioloop.call_later(0.05, self.look)
        connection.ioloop.start()
        with contextlib.suppress(Exception):
            connection.ioloop.close()
        if not world.over.is_set():
            world.wait_for_server()

    def look(self):
        if self.world.over.is_set() or self.world.paused.is_set() and not self.in_flight:
            with contextlib.suppress(Exception):
                self.connection.close()
            self.connection.ioloop.stop()
            return
        self.connection.ioloop.call_later(0.05, self.look)

    def opened(self, connection):
        connection.channel(on_open_callback=self.ready)

    def ready(self, channel):
        self.channel = channel
        channel.confirm_delivery(self.told)
        self.fill()

    def fill(self):
        world, ledger = self.world, self.world.ledger
        while len(self.in_flight) < world.options.window and not world.paused.is_set() and not world.over.is_set():
            with ledger.lock:
                number = ledger.published[self.number]
                ledger.published[self.number] += 1
            self.tag += 1
            self.in_flight[self.tag] = number
            self.channel.basic_publish("", QUEUE, body_of(world.seed, self.number, number), PERSISTENT)

    def told(self, frame):
        ledger, method = self.world.ledger, frame.method
        tags = [method.delivery_tag]
        if method.multiple:
            tags = [tag for tag in self.in_flight if tag <= method.delivery_tag]
        with ledger.lock:
            mine = ledger.confirmed[self.number]
            for tag in tags:
                number = self.in_flight.pop(tag, None)
                if number is None:
                    ledger.faults.append(f"publisher {self.number}: tag {tag} was confirmed twice")
                elif isinstance(method, pika.spec.Basic.Ack):
                    mine.add(number)
        self.fill()


class Consumer(threading.Thread):
    """Accepts most of what it gets, gives some back, and knows for which of it the server has answered."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world = world

    def run(self):
        world = self.world
        while not world.over.is_set():
            try:
                self.work()
            except Exception:
                world.wait_for_server()

    def work(self):
        world, ledger = self.world, self.world.ledger
        connection = pika.BlockingConnection(world.parameters())
        channel = connection.channel()
        channel.basic_qos(prefetch_count=50)
        chance, answered = random.Random(), time.monotonic()
        waiting = collections.deque()  # accepted, and when that was answered
        batch, last = [], {}
        try:
            for method, _, body in channel.consume(QUEUE, inactivity_timeout=0.05):
                if method is not None:
                    self.check(body)
                    publisher, number = whose(body)
                    if not method.redelivered:
                        if last.get(publisher, -1) >= number:
                            ledger.fault(f"publisher {publisher}: {number} after {last[publisher]}")
                        last[publisher] = number
                    if chance.random() < 0.05:
                        channel.basic_nack(method.delivery_tag, requeue=True)
                    else:
                        with ledger.lock:
                            ledger.perhaps.add(whose(body))
                        channel.basic_ack(method.delivery_tag)
                        batch.append(whose(body))
                if time.monotonic() - answered > 0.1:
                    # An answer to this comes after the acceptances before it were read.
                    channel.basic_qos(prefetch_count=50)
                    answered = time.monotonic()
                    waiting.append((answered + world.options.settle, batch))
                    batch = []
                while waiting and waiting[0][0] < time.monotonic() and connection.is_open:
                    # It lives: what it read that long ago is on disk.
                    connection.process_data_events(0)
                    _, settled = waiting.popleft()
                    with ledger.lock:
                        ledger.accepted.update(settled)
                if world.over.is_set() or world.paused.is_set():
                    break
        finally:
            with contextlib.suppress(Exception):
                connection.close()
        if world.paused.is_set() and not world.over.is_set():
            world.wait_for_server()

    def check(self, body):
        world = self.world
        try:
            publisher, number = whose(body)
            sound = body == body_of(world.seed, publisher, number)
        except ValueError:
            sound = False
        if not sound:
            world.ledger.fault(f"a message that nobody published: {body[:40]!r}… of {len(body)} bytes")
            return
        with world.ledger.lock:
            came_back = (publisher, number) in world.ledger.accepted
        if came_back:
            world.ledger.fault(f"{publisher} {number} came back after it was accepted")


def tree(pid):
    found = [pid]
    for one in found:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with open(f"/proc/{one}/task/{task}/children", encoding="ascii") as children:
                    found += map(int, children.read().split())
    return found


class World:
    def __init__(self, options):
        self.options, self.seed = options, random.randrange(1 << 32)
        self.ledger = Ledger()
        self.over, self.paused, self.up = threading.Event(), threading.Event(), threading.Event()
        self.server = None

    def parameters(self):
        found = pika.URLParameters(self.options.url)
        found.socket_timeout = found.blocked_connection_timeout = 20
        found.stack_timeout = 20
        return found

    def wait_for_server(self):
        time.sleep(0.05)
        while not self.over.is_set() and (not self.up.is_set() or self.paused.is_set()):
            time.sleep(0.02)

    def start(self):
        self.server = subprocess.Popen(
            self.options.command, stdin=subprocess.DEVNULL, stdout=self.options.log, stderr=self.options.log,
            start_new_session=True, env=self.options.environment,
        )
        began = time.monotonic()
        while True:
            if self.server.poll() is not None:
                raise SystemExit(f"the server ended with {self.server.returncode} when it was started")
            try:
                connection = pika.BlockingConnection(self.parameters())
                arguments = json.loads(self.options.arguments)
                connection.channel().queue_declare(QUEUE, durable=True, arguments=arguments)
                connection.close()
                break
            except Exception as error:
                if time.monotonic() - began > 120:
                    raise SystemExit(f"the server does not answer: {error!r}") from error
                time.sleep(0.1)
        self.up.set()
        return time.monotonic() - began

    def kill(self):
        self.up.clear()
        for pid in tree(self.server.pid):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.server.wait()

    def take_all(self):
        """Everything that is there, in its order."""
        began = time.monotonic()
        while True:
            found, accepted = [], False
            try:
                connection = pika.BlockingConnection(self.parameters())
                channel = connection.channel()
                channel.basic_qos(prefetch_count=500)
                last = 0
                for method, _, body in channel.consume(QUEUE, inactivity_timeout=3):
                    if method is None:
                        break
                    found.append((body, method.redelivered))
                    last = method.delivery_tag
                    if last % 250 == 0:
                        accepted = True
                        channel.basic_ack(last, multiple=True)
                if last % 250:
                    accepted = True
                    channel.basic_ack(last, multiple=True)
                channel.cancel()
                connection.close()
                return found
            except Exception:
                # A queue that has just come back may not be ready; once something was taken, it must be.
                if accepted or time.monotonic() - began > 60:
                    raise
                time.sleep(0.2)

    def judge(self, found):
        ledger, faults = self.ledger, []
        seen = collections.Counter()
        order = collections.defaultdict(list)
        for body, redelivered in found:
            try:
                publisher, number = whose(body)
                sound = body == body_of(self.seed, publisher, number) and number < ledger.published[publisher]
            except ValueError:
                sound = False
            if not sound:
                faults.append(f"not as it was published: {body[:40]!r}… of {len(body)} bytes")
                continue
            seen[publisher, number] += 1
            if not redelivered and number in ledger.confirmed[publisher]:
                order[publisher].append(number)
        for (publisher, number), times in seen.items():
            if times > 1:
                faults.append(f"{publisher} {number} is there {times} times")
            if (publisher, number) in ledger.accepted:
                faults.append(f"{publisher} {number} came back after it was accepted")
        for publisher, numbers in order.items():
            # What was handed out before and given back may stand elsewhere; what never was, may not.
            for before, after in zip(numbers, numbers[1:]):
                if after < before:
                    faults.append(f"publisher {publisher}: {after} comes after {before}")
        lost = 0
        for publisher, numbers in ledger.confirmed.items():
            for number in numbers:
                if (publisher, number) not in seen and (publisher, number) not in ledger.perhaps:
                    lost += 1
                    if lost <= 10:
                        faults.append(f"{publisher} {number} was confirmed, never accepted, and is not there")
        if lost > 10:
            faults.append(f"and {lost - 10} more were lost")
        # What was judged is gone from the queue.
        ledger.accepted.update(seen)
        ledger.perhaps.update(seen)
        return faults


def rabbitmq(options, folder):
    """A RabbitMQ of our own, by which the harness itself is judged."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    port, names, nodes = (one.getsockname()[1] for one in held)
    for one in held:
        one.close()
    with open(f"{folder}/rabbitmq.conf", "w", encoding="ascii") as file:
        file.write(f"listeners.tcp.1 = 127.0.0.1:{port}\n")
    with open(f"{folder}/plugins", "w", encoding="ascii") as file:
        file.write("[].\n")
    options.environment = dict(
        os.environ, HOME=folder, ERL_EPMD_ADDRESS="127.0.0.1", ERL_EPMD_PORT=str(names),
        RABBITMQ_NODENAME=f"kill{port}@localhost", RABBITMQ_DIST_PORT=str(nodes),
        RABBITMQ_MNESIA_BASE=f"{folder}/data", RABBITMQ_LOG_BASE=f"{folder}/logs",
        RABBITMQ_CONFIG_FILE=f"{folder}/rabbitmq.conf", RABBITMQ_ENABLED_PLUGINS_FILE=f"{folder}/plugins",
        # Without a shell that stays in between.
        RUNNING_UNDER_SYSTEMD="1", RABBITMQ_CONF_ENV_FILE="/dev/null", RABBITMQ_PID_FILE=f"{folder}/pid",
        RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="-kernel inet_dist_use_interface {127,0,0,1}",
    )
    options.command = ["/usr/lib/rabbitmq/bin/rabbitmq-server"]
    options.url = f"amqp://guest:guest@127.0.0.1:{port}/%2F"
    options.arguments = json.dumps({"x-queue-type": "quorum"})
    return subprocess.Popen(["epmd", "-address", "127.0.0.1", "-port", str(names)])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--publishers", type=int, default=3)
    parser.add_argument("--consumers", type=int, default=2)
    parser.add_argument("--window", type=int, default=200)
    parser.add_argument("--longest", type=float, default=3.0, help="seconds of work before a kill")
    parser.add_argument("--settle", type=float, default=1.0)
    parser.add_argument("--arguments", default="{}", help="of the queue's declaration")
    parser.add_argument("--url", default=os.environ.get("AMQP_URL", ""))
    parser.add_argument("--rabbitmq", action="store_true", help="judge RabbitMQ's quorum queues, and so the harness")
    parser.add_argument("command", nargs="*")
    options = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="weft-kill-")
    options.log = open(f"{folder}/log", "ab")
    options.environment, names = None, None
    if options.rabbitmq:
        names = rabbitmq(options, folder)
    elif not (options.command and options.url):
        parser.error("give --rabbitmq, or --url and a command")
    world = World(options)
    kept = 0
    try:
        world.start()
        workers = [Publisher(world, number) for number in range(options.publishers)]
        workers += [Consumer(world) for _ in range(options.consumers)]
        for worker in workers:
            worker.start()
        for number in range(options.rounds):
            before = sum(map(len, world.ledger.confirmed.values()))
            time.sleep(random.uniform(0.2, options.longest))
            world.kill()
            with world.ledger.lock:
                confirmed = sum(map(len, world.ledger.confirmed.values())) - before
            with world.ledger.lock:
                sent = sum(world.ledger.published.values())
            took = world.start()
            # Every other round nobody works while the queue is taken apart, and judged to the last message.
            faults = []
            if number % 2 or number == options.rounds - 1:
                world.paused.set()
                time.sleep(1.5)
                faults = world.judge(world.take_all())
                world.paused.clear()
            with world.ledger.lock:
                faults += world.ledger.faults
                world.ledger.faults = []
            kept += not faults
            for fault in faults[:20]:
                print(f"FAIL round {number}: {fault}", flush=True)
            print(
                f"{'FAIL' if faults else 'ok'} round {number}: {confirmed} confirmed ({sent} sent so far), killed, back in {took:.1f} s",
                flush=True,
            )
    finally:
        world.over.set()
        with contextlib.suppress(Exception):
            world.kill()
        if names:
            names.kill()
    with world.ledger.lock:
        confirmed = sum(map(len, world.ledger.confirmed.values()))
        accepted = len(world.ledger.accepted)
    print(f"{confirmed} confirmed and {accepted} accepted in all")
    if kept == options.rounds and confirmed and accepted:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        print(f"what the server said and left is in {folder}")
    print(f"PASSED {kept}/{options.rounds}", flush=True)
    os._exit(0 if options.rounds and kept == options.rounds and confirmed and accepted else 1)


main()

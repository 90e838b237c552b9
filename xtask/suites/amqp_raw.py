"""AMQP 0-9-1 by hand: what no client library does, because it would be wrong, or does unseen.

usage: AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2F amqp_raw.py; the last line is `PASSED n/m`.

Frames are written byte by byte: broken ones, ones in the wrong order, ones that are too large; half a
message and then silence; several confirms in one; SASL by other ways than a client takes.
"""

import contextlib
import socket
import struct
import time
from urllib.parse import unquote, urlsplit

from amqp_report import URL, begins, case, main, name, same

PARTS = urlsplit(URL)
USER, PASSWORD = unquote(PARTS.username or "guest"), unquote(PARTS.password or "guest")
VHOST = unquote(PARTS.path[1:]) or "/"
HEADER = b"AMQP\x00\x00\x09\x01"
METHOD, HEAD, BODY, HEARTBEAT = 1, 2, 3, 8
END = b"\xce"


def short(text):
    raw = text.encode()
    return bytes([len(raw)]) + raw


def long(raw):
    raw = raw.encode() if isinstance(raw, str) else raw
    return struct.pack(">I", len(raw)) + raw


def method(major, minor, *arguments):
    return struct.pack(">HH", major, minor) + b"".join(arguments)


def frame(kind, channel, payload, end=END):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + end


def call(channel, major, minor, *arguments):
    return frame(METHOD, channel, method(major, minor, *arguments))


class Closed(Exception):
    """The other side closed the socket."""


class Wire:
    """A socket that speaks in frames."""

    def __init__(self):
        self.socket = socket.create_connection((PARTS.hostname, PARTS.port or 5672), 10)
        self.socket.settimeout(10)
        self.kept = b""

    def send(self, raw):
        self.socket.sendall(raw)

    def more(self):
        try:
            raw = self.socket.recv(65536)
        except ConnectionResetError:
            raw = b""
        if not raw:
            raise Closed
        self.kept += raw

    def take(self, count):
        while len(self.kept) < count:
            self.more()
        found, self.kept = self.kept[:count], self.kept[count:]
        return found

    def frame(self):
        kind, channel, size = struct.unpack(">BHI", self.take(7))
        payload = self.take(size)
        same(self.take(1), END, "frame end")
        return kind, channel, payload

    def want(self, major, minor, channel=None):
        """The arguments of the next method, which must be this one; heartbeats are passed over."""
        while True:
            kind, where, payload = self.frame()
            if kind != HEARTBEAT:
                break
        same(kind, METHOD, "frame type")
        found = struct.unpack(">HH", payload[:4])
        if found != (major, minor) and found in ((10, 50), (20, 40)):
            raise AssertionError(f"closed instead: {reason(payload[4:])}")
        same(found, (major, minor), "method")
        if channel is not None:
            same(where, channel, "channel")
        return payload[4:]

    def closed_with(self, code, text):
        """The connection is closed with this; the answer is given, and the socket ends."""
        found = self.want(10, 50, 0)
        same(reason(found)[0], code, reason(found)[1])
        begins(reason(found)[1], text)
        self.send(call(0, 10, 51))
        self.ended()

    def ended(self):
        with contextlib.suppress(Closed, ConnectionError):
            while True:
                self.kept = b""
                self.more()
                assert len(self.kept) < 1 << 20, "it goes on talking"

    def start(self, mechanism="PLAIN", response=None):
        self.send(HEADER)
        found = self.want(10, 10, 0)
        same(found[:2], b"\x00\x09", "version")
        if response is None:
            response = f"\0{USER}\0{PASSWORD}".encode()
        self.send(call(0, 10, 11, long(b""), short(mechanism), long(response), short("en_US")))

    def tune(self, channels=2047, frame_max=131072, heartbeat=0):
        offered = struct.unpack(">HIH", self.want(10, 30, 0))
        self.send(call(0, 10, 31, struct.pack(">HIH", channels, frame_max, heartbeat)))
        return offered

    def open(self, **tuning):
        self.start()
        self.tune(**tuning)
        self.send(call(0, 10, 40, short(VHOST), short(""), b"\0"))
        self.want(10, 41, 0)
        return self

    def channel(self, number=1):
        self.send(call(number, 20, 10, short("")))
        self.want(20, 11, number)

    def queue(self, title=None, bits=4, channel=1):
        """Declares a queue, exclusive unless told."""
        title = title or name()
        self.send(call(channel, 50, 10, b"\0\0", short(title), bytes([bits]), long(b"")))
        self.want(50, 11, channel)
        return title

    def publish(self, key, body, channel=1, chunk=131064, properties=b"\x00\x00"):
        raw = call(channel, 60, 40, b"\0\0", short(""), short(key), b"\0")
        raw += frame(HEAD, channel, struct.pack(">HHQ", 60, 0, len(body)) + properties)
        for at in range(0, len(body), chunk):
            raw += frame(BODY, channel, body[at : at + chunk])
        self.send(raw)

    def get(self, title, channel=1):
        """The next body, or nothing."""
        self.send(call(channel, 60, 70, b"\0\0", short(title), b"\1"))
        kind, _, payload = self.frame()
        same(kind, METHOD)
        if struct.unpack(">HH", payload[:4]) == (60, 72):
            return None
        same(struct.unpack(">HH", payload[:4]), (60, 71))
        _, _, head = self.frame()
        size, body = struct.unpack(">Q", head[4:12])[0], b""
        while len(body) < size:
            kind, _, part = self.frame()
            same(kind, BODY)
            body += part
        return body


def reason(arguments):
    code, size = struct.unpack(">HB", arguments[:3])
    return code, arguments[3 : 3 + size].decode()


@contextlib.contextmanager
def wire():
    found = Wire()
    try:
        yield found
    finally:
        found.socket.close()


@case("another protocol's header is answered with ours, and the end")
def other_header():
    for header in (b"AMQP\x00\x02\x02\x03", b"AMQP\x00\x00\x08\x05", b"GET / HTTP/1.1\r\n\r\n", b"AMQX\x00\x00\x09\x01"):
        with wire() as it:
            it.send(header)
            same(it.take(8), HEADER)
            it.ended()


@case("what is offered: versions, mechanisms, limits")
def offers():
    with wire() as it:
        it.send(HEADER)
        found = it.want(10, 10, 0)
        size = struct.unpack(">I", found[2:6])[0]
        rest = found[6 + size :]
        count = struct.unpack(">I", rest[:4])[0]
        mechanisms = rest[4 : 4 + count].decode().split()
        assert "PLAIN" in mechanisms and "AMQPLAIN" in mechanisms, mechanisms
        same(rest[4 + count + 4 :], b"en_US")
        it.send(call(0, 10, 11, long(b""), short("PLAIN"), long(f"\0{USER}\0{PASSWORD}"), short("en_US")))
        same(struct.unpack(">HIH", it.want(10, 30, 0)), (2047, 131072, 60))


@case("AMQPLAIN opens as PLAIN does")
def amqplain():
    with wire() as it:
        table = b"".join(short(key) + b"S" + long(value) for key, value in (("LOGIN", USER), ("PASSWORD", PASSWORD)))
        it.start("AMQPLAIN", table)
        it.tune()
        it.send(call(0, 10, 40, short(VHOST), short(""), b"\0"))
        it.want(10, 41, 0)


@case("a refusal is told by a close to clients that can take it, and by the end to others")
def refusal():
    told = short("capabilities") + b"F" + long(short("authentication_failure_close") + b"t\x01")
    with wire() as it:
        it.send(HEADER)
        it.want(10, 10, 0)
        it.send(call(0, 10, 11, long(told), short("PLAIN"), long("\0guest\0wrong"), short("en_US")))
        found = reason(it.want(10, 50, 0))
        same(found[0], 403)
        begins(found[1], "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN.")
    with wire() as it:
        it.start("PLAIN", b"\0guest\0wrong")
        it.ended()


@case("an unknown mechanism is refused by name")
def mechanism():
    with wire() as it:
        it.start("TELEPATHY", b"")
        try:
            found = reason(it.want(10, 50, 0))
        except Closed:
            return
        same(found[0], 504 if found[0] == 504 else 530)


@case("a frame that does not end as frames do closes with 501")
def frame_end():
    with wire() as it:
        it.open()
        it.send(frame(METHOD, 1, method(20, 10, short("")), end=b"\x00"))
        it.closed_with(501, "FRAME_ERROR - ")


@case("a frame larger than was agreed closes with 501")
def too_large():
    with wire() as it:
        it.open(frame_max=4096)
        it.channel()
        q = it.queue()
        it.publish(q, b"x" * 5000, chunk=5000)
        it.closed_with(501, "FRAME_ERROR - ")


@case("a method on a channel that is not open closes with 504")
def not_open():
    with wire() as it:
        it.open()
        it.send(call(3, 50, 10, b"\0\0", short(name()), b"\4", long(b"")))
        it.closed_with(504, "CHANNEL_ERROR - expected 'channel.open'")


@case("a channel opened twice closes with 504")
def opened_twice():
    with wire() as it:
        it.open()
        it.channel()
        it.send(call(1, 20, 10, short("")))
        it.closed_with(504, "CHANNEL_ERROR - second 'channel.open' seen")


@case("one channel more than was agreed closes with 530")
def channel_max():
    with wire() as it:
        it.open(channels=5)
        for number in range(1, 6):
            it.channel(number)
        it.send(call(6, 20, 10, short("")))
        it.closed_with(530, "NOT_ALLOWED - number of channels opened")


@case("a method that is none ends the connection")
def unknown_method():
    with wire() as it:
        it.open()
        it.channel()
        it.send(call(1, 60, 999))
        try:
            found = reason(it.want(10, 50, 0))
        except Closed:
            return
        assert found[0] in (503, 540, 502), found


@case("arguments cut short close with 502")
def cut_short():
    with wire() as it:
        it.open()
        it.channel()
        it.send(frame(METHOD, 1, method(50, 10) + b"\0\0\x20abc"))
        found = reason(it.want(10, 50, 0))
        assert found[0] in (502, 501, 541), found


@case("a head without a method closes with 505")
def head_alone():
    with wire() as it:
        it.open()
        it.channel()
        it.send(frame(HEAD, 1, struct.pack(">HHQH", 60, 0, 1, 0)))
        it.closed_with(505, "UNEXPECTED_FRAME - ")


@case("a method where a head or a body was due closes with 505")
def method_in_between():
    for sent in (b"", frame(HEAD, 1, struct.pack(">HHQH", 60, 0, 10, 0))):
        with wire() as it:
            it.open()
            it.channel()
            q = it.queue()
            it.send(call(1, 60, 40, b"\0\0", short(""), short(q), b"\0") + sent)
            it.send(call(1, 60, 70, b"\0\0", short(q), b"\1"))
            it.closed_with(505, "UNEXPECTED_FRAME - ")


@case("more body than the head said is never a message")
def too_much_body():
    with wire() as it, wire() as other:
        it.open()
        it.channel()
        other.open()
        other.channel()
        q = other.queue(bits=0)
        it.send(call(1, 60, 40, b"\0\0", short(""), short(q), b"\0"))
        it.send(frame(HEAD, 1, struct.pack(">HHQH", 60, 0, 3, 0)) + frame(BODY, 1, b"12345"))
        with contextlib.suppress(Closed, TimeoutError):
            it.socket.settimeout(1)
            same(reason(it.want(10, 50, 0))[0] in (501, 505), True, "closed for a frame")
        same(other.get(q), None)
        other.send(call(1, 50, 40, b"\0\0", short(q), b"\0"))
        other.want(50, 41)


@case("frames of several channels may come between one another")
def interleaved():
    with wire() as it:
        it.open()
        it.channel(1)
        it.channel(2)
        q, p = it.queue(channel=1), it.queue(channel=2)
        it.send(call(1, 60, 40, b"\0\0", short(""), short(q), b"\0"))
        it.send(call(2, 60, 40, b"\0\0", short(""), short(p), b"\0"))
        for channel, size in ((2, 4), (1, 6)):
            it.send(frame(HEAD, channel, struct.pack(">HHQH", 60, 0, size, 0)))
        it.send(frame(BODY, 1, b"abc") + frame(BODY, 2, b"12") + frame(BODY, 1, b"def") + frame(BODY, 2, b"34"))
        same((it.get(q, 1), it.get(p, 2)), (b"abcdef", b"1234"))


@case("a body in many small frames, some of them empty, is one body")
def small_frames():
    with wire() as it:
        it.open()
        it.channel()
        q = it.queue()
        body = bytes(range(256)) * 20
        it.send(call(1, 60, 40, b"\0\0", short(""), short(q), b"\0"))
        it.send(frame(HEAD, 1, struct.pack(">HHQH", 60, 0, len(body), 0)))
        for at in range(0, len(body), 7):
            it.send(frame(BODY, 1, body[at : at + 7]))
        same(it.get(q), body)


@case("bytes that trickle in are frames all the same")
def trickle():
    with wire() as it:
        it.open()
        it.channel()
        q = it.queue()
        it.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        raw = call(1, 60, 40, b"\0\0", short(""), short(q), b"\0")
        raw += frame(HEAD, 1, struct.pack(">HHQH", 60, 0, 5, 0)) + frame(BODY, 1, b"slow!")
        for byte in raw:
            it.send(bytes([byte]))
        same(it.get(q), b"slow!")


@case("half a message and then the end leaves nothing behind")
def half_a_message():
    q = name()
    with wire() as it:
        it.open()
        it.channel()
        it.queue(q, bits=0)
        it.publish(q, b"whole")
        it.send(call(1, 60, 40, b"\0\0", short(""), short(q), b"\0"))
        it.send(frame(HEAD, 1, struct.pack(">HHQH", 60, 0, 100, 0)) + frame(BODY, 1, b"half"))
    with wire() as it:
        it.open()
        it.channel()
        same((it.get(q), it.get(q)), (b"whole", None))
        it.send(call(1, 50, 40, b"\0\0", short(q), b"\0"))
        it.want(50, 41)


@case("a client that falls silent is given up after two heartbeats, one that beats is kept")
def silence():
    with wire() as it:
        it.open(heartbeat=1)
        it.socket.settimeout(15)
        began, beats = time.monotonic(), 0
        try:
            while True:
                kind, channel, payload = it.frame()
                same((kind, channel, payload), (HEARTBEAT, 0, b""))
                beats += 1
                assert time.monotonic() - began < 12, "never given up"
        except Closed:
            pass
        took = time.monotonic() - began
        assert beats >= 1 and 1.5 <= took <= 8, f"{beats} beats, given up after {took:.1f} s"
    with wire() as it:
        it.open(heartbeat=1)
        began = time.monotonic()
        while time.monotonic() - began < 5:
            it.send(frame(HEARTBEAT, 0, b""))
            time.sleep(0.4)
        it.channel()


@case("a heartbeat on a channel is an error")
def heartbeat_on_channel():
    with wire() as it:
        it.open()
        it.channel()
        it.send(frame(HEARTBEAT, 1, b""))
        found = reason(it.want(10, 50, 0))
        assert found[0] in (501, 503, 505), found


@case("nobody is let in without opening, and nobody waits for ever")
def no_opening():
    with wire() as it:
        it.start()
        it.tune()
        it.send(call(1, 20, 10, short("")))
        # Closed by a word or by the end; never answered.
        try:
            found = it.frame()
        except Closed:
            return
        assert found[2][:4] != method(20, 11), "a channel before the connection was open"
    with wire() as it:
        it.socket.settimeout(25)
        it.ended()


@case("confirms: numbered from the select, each once, several in one allowed")
def confirms():
    with wire() as it:
        it.open()
        it.channel()
        q = it.queue(bits=2 | 4)
        it.publish(q, b"before")  # not counted
        it.send(call(1, 85, 10, b"\0"))
        it.want(85, 11, 1)
        for number in range(500):
            it.publish(q, str(number).encode(), properties=b"\x10\x00\x02")
        open_tags = set(range(1, 501))
        while open_tags:
            found = it.want(60, 80, 1)
            tag, multiple = struct.unpack(">QB", found)
            named = {one for one in open_tags if one <= tag} if multiple & 1 else {tag}
            assert named and named <= open_tags, f"confirmed twice or never sent: {tag}"
            open_tags -= named
        same(it.get(q), b"before")
        for number in range(500):
            same(it.get(q), str(number).encode())


@case("what asks for no answer gets none")
def no_wait():
    with wire() as it:
        it.open()
        it.channel()
        q, x = name(), name("x")
        it.send(call(1, 40, 10, b"\0\0", short(x), short("fanout"), b"\x14", long(b"")))  # auto-delete, no-wait
        it.send(call(1, 50, 10, b"\0\0", short(q), b"\x14", long(b"")))  # exclusive, no-wait
        it.send(call(1, 50, 20, b"\0\0", short(q), short(x), short(""), b"\1", long(b"")))
        it.send(call(1, 85, 10, b"\1"))
        it.send(call(1, 60, 20, b"\0\0", short(q), short("tag"), b"\x0a", long(b"")))  # no-ack, no-wait
        it.send(call(1, 60, 40, b"\0\0", short(x), short(""), b"\0"))
        it.send(frame(HEAD, 1, struct.pack(">HHQH", 60, 0, 2, 0)) + frame(BODY, 1, b"hi"))
        seen = []
        while len(seen) < 2:
            kind, _, payload = it.frame()
            if kind == METHOD:
                seen.append(struct.unpack(">HH", payload[:4]))
        same(sorted(seen), [(60, 60), (60, 80)])


@case("a channel closed by the client answers nothing more, and its number is free")
def close_channel():
    with wire() as it:
        it.open()
        it.channel()
        q = it.queue()
        for _ in range(3):
            it.publish(q, b"m")
        it.send(call(1, 20, 40, struct.pack(">H", 200), short("bye"), b"\0\0\0\0"))
        it.want(20, 41, 1)
        it.channel(1)
        same([it.get(q) for _ in range(4)], [b"m", b"m", b"m", None])


@case("after the server closed a channel, frames on it are passed over until it is acknowledged")
def passed_over():
    with wire() as it:
        it.open()
        it.channel()
        q = it.queue()
        it.send(call(1, 50, 10, b"\0\0", short(name()), b"\1", long(b"")))  # passive: refused
        it.publish(q, b"too late")
        it.send(call(1, 60, 70, b"\0\0", short(q), b"\1"))
        found = it.want(20, 40, 1)
        same(reason(found)[0], 404)
        same(struct.unpack(">HH", found[-4:]), (50, 10), "the method at fault")
        it.send(call(1, 20, 41))
        it.channel()
        same(it.get(q), None)


@case("flow of deliveries ends where the client does not read, and nothing is lost by it")
def slow_reader():
    with wire() as it, wire() as other:
        it.open()
        it.channel()
        other.open()
        other.channel()
        q = other.queue(bits=0)
        body = b"z" * 50_000
        it.send(call(1, 60, 20, b"\0\0", short(q), short("slow"), b"\0", long(b"")))
        it.want(60, 21)
        for _ in range(400):  # 20 MB, while nobody reads
            other.publish(q, body)
        time.sleep(1)
        got = 0
        while got < 400:
            kind, _, payload = it.frame()
            if kind == HEAD:
                same(struct.unpack(">Q", payload[4:12])[0], 50_000)
                got += 1
        it.send(call(1, 60, 80, struct.pack(">QB", 0, 1)))
        other.send(call(1, 50, 40, b"\0\0", short(q), b"\0"))
        other.want(50, 41)


@case("connection.close is answered")
def close_connection():
    with wire() as it:
        it.open()
        it.channel()
        it.send(call(0, 10, 50, struct.pack(">H", 200), short("bye"), b"\0\0\0\0"))
        it.want(10, 51, 0)


main()

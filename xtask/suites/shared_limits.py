"""Rate limits that three nodes of Weft share in a real Redis or Valkey.

usage: shared_limits.py WEFT FOLDER SERVER...

Starts each server with TLS and a password, and the nodes against it. What the nodes let through together is held to
the limit and to the error that the page on rate limits states, while the server is stopped, killed, started again,
flushed, forgets its scripts, and is shown a wrong password. Ends with a line `PASSED n/m`.
"""

import contextlib
import datetime
import http.client
import ipaddress
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PASSWORD = "the-password-of-the-store"
NODES = 3
BURST, PER_SECOND, SLICE = 600, 1.0, 20
PATIENCE = 30

passed, failed = [], []


def case(name, held, why=""):
    (passed if held else failed).append(name)
    print(f"{'ok  ' if held else 'FAIL'} {name} {why}", flush=True)


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                return True
        time.sleep(0.05)
    print(f"     gave up waiting: {what}", flush=True)
    return False


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def certificates(folder):
    """An authority of its own, and a certificate of it for 127.0.0.1 and localhost."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def made(subject, issuer, key, signer, *extensions):
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=2))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256())

    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = made("suite", "suite", authority, authority, (x509.BasicConstraints(True, None), True))
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = made("store", "suite", key, authority, (x509.SubjectAlternativeName(names), False))
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    (folder / "store.pem").write_bytes(leaf.public_bytes(pem))
    (folder / "store.key").write_bytes(
        key.private_bytes(
            pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


class Store:
    """A server of Redis or Valkey."""

    def __init__(self, program, folder, port):
        self.program, self.folder, self.port = program, folder, port
        self.process = None

    def start(self):
        options = {
            "port": "0",
            "tls-port": self.port,
            "tls-cert-file": self.folder / "store.pem",
            "tls-key-file": self.folder / "store.key",
            "tls-ca-cert-file": self.folder / "ca.pem",
            "tls-auth-clients": "no",
            "requirepass": PASSWORD,
            "bind": "127.0.0.1",
            "save": "",
            "appendonly": "no",
            "dir": self.folder,
        }
        command = [self.program]
        for option, value in options.items():
            command += [f"--{option}", str(value)]
        with open(self.folder / "store.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        return until("the store answers", lambda: self.ask("PING") == b"+PONG")

    def ask(self, *words):
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=5)
        with context.wrap_socket(raw, server_hostname="localhost") as conn:
            answer = b""
            for command in (("AUTH", PASSWORD), ("SELECT", "1"), words):
                parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word.encode()) for word in command)
                conn.sendall(b"*%d\r\n" % len(command) + parts)
                answer = conn.recv(65536)
            return answer.strip()

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()


class Node:
    """A node of Weft."""

    def __init__(self, binary, folder, name, store, password=PASSWORD):
        self.binary, self.folder, self.name, self.store = binary, folder, name, store
        self.web, self.admin = free_ports(2)
        self.config = folder / f"{name}.yaml"
        self.log = folder / f"{name}.log"
        self.write(password)
        with open(self.log, "wb") as log:
            command = [self.binary, "up", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(f"{name} is up", lambda: self.ask("/free") == 200)

    def write(self, password, more=""):
        limit = f"rate: {BURST}/{int(BURST / PER_SECOND)}s, by: [{{ header: x-key }}], store: shared"
        routes = "".join(
            f"  - {{ name: {name}, match: '/{name}', respond: 200, rate_limits: {{ {limit}, {further} }} }}\n"
            for name, further in {
                "sliced": f"slice: {SLICE}",
                "exact": "slice: 1",
                "open": "when_away: open",
                "local": "when_away: local",
            }.items()
        )
        self.config.write_text(
            f"""admin: {{ listen: '127.0.0.1:{self.admin}' }}
telemetry: {{ access_log: off }}
listeners: {{ web: {{ address: '127.0.0.1:{self.web}' }} }}
limit_stores:
  shared:
    url: 'rediss://localhost:{self.store.port}/1'
    password: {password}
    ca_file: ca.pem
    timeout: 1s
routes:
  - {{ name: free, match: '/free', respond: 200 }}
{routes}{more}"""
        )

    def ask(self, path, key="k"):
        conn = http.client.HTTPConnection("127.0.0.1", self.web, timeout=10)
        conn.request("GET", path, headers={"x-key": key})
        status = conn.getresponse().status
        conn.close()
        return status

    def flood(self, path, key, refused, stop):
        """Asks over one connection until told to stop; gives how many passed, and what else was answered."""
        conn = http.client.HTTPConnection("127.0.0.1", self.web, timeout=10)
        seen = {}
        while not stop():
            conn.request("GET", path, headers={"x-key": key})
            response = conn.getresponse()
            response.read()
            if response.status == 429:
                refused.set()
            seen[response.status] = seen.get(response.status, 0) + 1
        conn.close()
        return seen

    def metric(self, name):
        conn = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=10)
        conn.request("GET", "/metrics")
        lines = conn.getresponse().read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def says(self, text):
        return text in self.log.read_text(errors="replace")

    def end(self):
        self.process.kill()
        self.process.wait()


def flood(nodes, path, key, seconds):
    """Floods all nodes at once, for so long and until the limit is reached, however slow the machine is; gives the
    sum of what was answered, and the time that it took."""
    began = time.monotonic()
    outcomes, threads, refused = [], [], threading.Event()

    def stop():
        took = time.monotonic() - began
        return took > 60 or (took > seconds and refused.is_set())

    def one(node):
        outcomes.append(node.flood(path, key, refused, stop))

    for node in nodes:
        for _ in range(3):
            threads.append(threading.Thread(target=one, args=(node,)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = {}
    for seen in outcomes:
        for status, count in seen.items():
            total[status] = total.get(status, 0) + count
    return total, time.monotonic() - began


def held(name, total, took, slack):
    """What got through is within the limit, and no less than what nodes may have in stock."""
    got = total.get(200, 0)
    most, least = BURST + PER_SECOND * took, BURST - slack
    fits = least <= got <= most and set(total) <= {200, 429}
    case(name, fits, f"{total}: {least:.0f} to {most:.0f}")


def away(kind, name, nodes):
    """What becomes of requests while the store is away."""
    refused = until("503", lambda: nodes[0].ask("/exact", f"{name}") == 503)
    began = time.monotonic()
    again = nodes[0].ask("/exact", name)
    took = time.monotonic() - began
    case(f"{kind}: {name}: closed refuses at once", refused and again == 503 and took < 1, f"{took:.3f}s")
    case(f"{kind}: {name}: open passes", {nodes[1].ask("/open", name) for _ in range(5)} == {200})
    total, took = flood(nodes[2:], "/local", name, 2.0)
    got, most = total.get(200, 0), BURST + PER_SECOND * took
    fits = BURST - SLICE <= got <= most and set(total) <= {200, 429}
    case(f"{kind}: {name}: local counts alone", fits, f"{total}")
    until("it is told", lambda: nodes[0].metric("weft_limit_store_up") == 0)
    case(f"{kind}: {name}: metrics tell it", nodes[0].metric("weft_limit_store_up") == 0)


def back(kind, name, nodes):
    up = all(until("up", lambda: node.metric("weft_limit_store_up") == 1) for node in nodes)
    asked = all(node.ask("/exact", f"{name}-after") == 200 for node in nodes)
    case(f"{kind}: {name}: counted again", up and asked)


def judge(program, binary, folder):
    kind = os.path.basename(program).removesuffix("-server")
    folder.mkdir(parents=True)
    certificates(folder)
    store = Store(program, folder, free_ports(1)[0])
    case(f"{kind}: starts with TLS and a password", store.start())
    nodes = [Node(binary, folder, f"node{number}", store) for number in range(NODES)]
    try:
        until("all are connected", lambda: all(node.metric("weft_limit_store_up") for node in nodes))
        total, took = flood(nodes, "/exact", "one", 3.0)
        held(f"{kind}: three nodes with slices of one", total, took, 3)
        asked = sum(node.metric("weft_limit_store_questions_total") for node in nodes)
        total, took = flood(nodes, "/sliced", "two", 3.0)
        held(f"{kind}: three nodes with slices of {SLICE}", total, took, NODES * SLICE)
        asked = sum(node.metric("weft_limit_store_questions_total") for node in nodes) - asked
        case(f"{kind}: most requests ask nobody", asked < total[200] / 3, f"{asked:.0f} questions")

        # A reload keeps the connection, so that nothing is refused meanwhile.
        for node in nodes:
            node.write(PASSWORD, "  - { name: more, match: '/more', respond: 200 }\n")
            node.process.send_signal(signal.SIGHUP)
        total, took = flood(nodes, "/exact", "reload", 2.0)
        held(f"{kind}: a reload", total, took, 3)

        # One that was flushed has forgotten the script, and is given it again.
        store.ask("SCRIPT", "FLUSH")
        total, took = flood(nodes, "/sliced", "three", 2.0)
        held(f"{kind}: SCRIPT FLUSH", total, took, NODES * SLICE)
        store.ask("FLUSHALL")
        total, took = flood(nodes, "/sliced", "three", 2.0)
        held(f"{kind}: FLUSHALL begins anew", total, took, NODES * SLICE)

        store.signal(signal.SIGSTOP)
        away(kind, "SIGSTOP", nodes)
        store.signal(signal.SIGCONT)
        back(kind, "SIGSTOP", nodes)

        store.kill()
        away(kind, "kill -9", nodes)
        case(f"{kind}: kill -9: starts again", store.start())
        back(kind, "kill -9", nodes)
        total, took = flood(nodes, "/sliced", "four", 2.0)
        held(f"{kind}: after all of that", total, took, NODES * SLICE)

        stranger = Node(binary, folder, "stranger", store, password="not-the-password-of-it")
        nodes.append(stranger)
        told = until("told", lambda: stranger.says("wrong user or password"))
        case(f"{kind}: a wrong password is told and refused", told and stranger.ask("/exact") == 503)
        case(f"{kind}: no password is shown", not stranger.says("not-the-password-of-it"))
        stranger.write(PASSWORD)
        stranger.process.send_signal(signal.SIGHUP)
        back(kind, "a reload with the right one", [stranger])
    finally:
        for node in nodes:
            node.end()
        store.signal(signal.SIGCONT)
        store.kill()


def main():
    binary, folder, servers = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3:]
    for server in servers:
        judge(server, binary, folder.resolve() / os.path.basename(server))
    count = len(passed) + len(failed)
    print(f"PASSED {len(passed)}/{count}")
    sys.exit(bool(failed))


main()

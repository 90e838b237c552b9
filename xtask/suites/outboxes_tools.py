"""A PostgreSQL server and a node of Weft, for the suite of outboxes."""

import contextlib
import datetime
import glob
import http.client
import ipaddress
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

import psycopg
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PATIENCE = 60
PASSWORD = "p@ss:word/ä"
PAGE = pathlib.Path(__file__).parents[2] / "docs/patterns/outbox.md"


def page(begins):
    """The statement of the page on outboxes that begins so: what is written there is what is run."""
    text = PAGE.read_text()
    return re.split("[;`]", text[text.index(begins):], maxsplit=1)[0]


TABLE = page("CREATE TABLE outbox")


def until(what, condition, patience=PATIENCE):
    end = time.monotonic() + patience
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException, psycopg.OperationalError):
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
    """An authority of its own, and a certificate of it for localhost."""
    now = datetime.datetime.now(datetime.timezone.utc)

    def made(subject, issuer, key, signer, *extensions):
        named = [x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, of)]) for of in (subject, issuer)]
        builder = x509.CertificateBuilder().subject_name(named[0]).issuer_name(named[1])
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=2))
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer, hashes.SHA256())

    authority, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    root = made("suite", "suite", authority, authority, (x509.BasicConstraints(True, None), True))
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    leaf = made("database", "suite", key, authority, (x509.SubjectAlternativeName(names), False))
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(root.public_bytes(pem))
    (folder / "server.crt").write_bytes(leaf.public_bytes(pem))
    (folder / "server.key").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class Postgres:
    """A server in a folder, as a user that is not root; over TLS, and with passwords by SCRAM."""

    def __init__(self, folder, name, port, certificate):
        self.data, self.log, self.port = folder / name, folder / f"{name}.log", port
        self.process = None
        binaries = sorted(glob.glob("/usr/lib/postgresql/*/bin"), key=lambda at: int(at.split("/")[4]))
        self.binaries = pathlib.Path(binaries[-1])
        self.user = []
        if os.getuid() == 0:
            self.user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.data.mkdir()
        self.own(self.data)
        secret = folder / f"{name}.password"
        secret.write_text(PASSWORD)
        self.own(secret)
        self.run("initdb", "-D", self.data, "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8",
                 "--locale=C", "--pwfile", secret, "--no-sync")
        for file in ("server.crt", "server.key"):
            shutil.copy(certificate / file, self.data / file)
            os.chmod(self.data / file, 0o600)
            self.own(self.data / file)
        (self.data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n"
                                               "hostssl replication all 127.0.0.1/32 scram-sha-256\n")

    def own(self, path):
        if self.user:
            shutil.chown(path, "postgres", "postgres")

    def run(self, program, *arguments):
        command = [*self.user, str(self.binaries / program), *map(str, arguments)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")

    def start(self, **settings):
        settings = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": "",
            "wal_level": "logical", "ssl": "on", "shared_buffers": "32MB", "max_wal_size": "256MB",
            "wal_sender_timeout": "20s", "log_min_messages": "warning", **settings,
        }
        command = [*self.user, str(self.binaries / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/")
        return until("the database answers", lambda: self.ask("SELECT 1") == [(1,)])

    def connect(self, user="postgres", database="postgres", **more):
        return psycopg.connect(host="127.0.0.1", port=self.port, user=user, password=PASSWORD,
                               dbname=database, connect_timeout=5, **more)

    def ask(self, text, *arguments):
        with self.connect(autocommit=True) as conn:
            cursor = conn.execute(text, arguments or None)
            return cursor.fetchall() if cursor.description else []

    def kill(self):
        """The postmaster and all that it has started; a new one waits for them otherwise."""
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        for pid in [self.process.pid, *map(int, children.stdout.split())]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """In order, as an upgrade does; tells how long that took."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self.kill()
        return time.monotonic() - began

    def copy(self, to):
        subprocess.run(["cp", "-a", str(self.data), str(to)], check=True)

    def restore(self, copy):
        shutil.rmtree(self.data)
        subprocess.run(["cp", "-a", str(copy), str(self.data)], check=True)


class Weft:
    """A node with outboxes."""

    def __init__(self, binary, folder, port):
        self.binary, self.folder, self.port = binary, folder, port
        (self.admin,) = free_ports(1)
        self.config, self.log = folder / "weft.yaml", folder / "weft.log"
        self.process = None

    def url(self, user="postgres", database="postgres"):
        from urllib.parse import quote
        return f"postgres://{user}:{quote(PASSWORD, safe='')}@localhost:{self.port}/{database}?sslmode=verify-full"

    def write(self, outboxes, topics=()):
        sections = "".join(
            f"  {name}: {{ database: '{self.url()}', ca_file: ca.pem, heartbeat: 500ms, {rest} }}\n"
            for name, rest in outboxes.items()
        )
        topics = "".join(f"  {topic}: {{ dedupe: off }}\n" for topic in ("outbox.event.order", "outbox.event.user", *topics))
        self.config.write_text(f"""admin: {{ listen: '127.0.0.1:{self.admin}' }}
telemetry: {{ access_log: off }}
ledger: {{ path: ledger }}
topics:
{topics}queues: {{ refused: {{}} }}
outboxes:
{sections}""")

    def start(self):
        with open(self.log, "ab") as log:
            command = [self.binary, "up", "--config", str(self.config)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.folder)
        return until("the node answers", lambda: self.get("/healthz")[0] == 200)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def send(self, method, path, body=None, **headers):
        conn = http.client.HTTPConnection("127.0.0.1", self.admin, timeout=PATIENCE)
        body = None if body is None else json.dumps(body)
        conn.request(method, path, body, {"content-type": "application/json", **headers})
        response = conn.getresponse()
        answer = response.status, response.read()
        conn.close()
        return answer

    def get(self, path, **headers):
        return self.send("GET", path, **headers)

    def outbox(self, name="shop"):
        status, body = self.get(f"/v1/outboxes/{name}")
        return json.loads(body) if status == 200 else {}

    def state(self, name="shop"):
        return self.outbox(name).get("state")

    def stands(self, fault, name="shop"):
        """Whether an outbox stands still for a cause, and says so everywhere."""
        found = until(f"{name} stops: {fault}", lambda: self.outbox(name).get("fault") == fault)
        if not found:
            print("    ", self.outbox(name), flush=True)
        labels = f'weft_outbox_stopped{{outbox="{name}",fault="{fault}"}} 1'
        metrics = self.get("/metrics")[1].decode()
        log = self.log.read_text(errors="replace")
        return found and labels in metrics and "the outbox stands still" in log and fault in log

    def read(self, topic="outbox.event.order"):
        body = self.get(f"/v1/topics/{topic}/messages?from=first", accept="application/x-ndjson")[1]
        return [json.loads(line) for line in body.splitlines()]

    def ids(self, topic="outbox.event.order"):
        return [message["event"]["id"] for message in self.read(topic)]

    def reset(self, start, name="shop"):
        return self.send("POST", f"/v1/outboxes/{name}/reset", {"from": start})

"""nginx-db-auth of PyPI decides over HTTP, as it would for nginx' auth_request: it looks into a database.

external_authorization_http.py WEB SERVICE DECIDER AWAY FOLDER: HOST:PORT of Weft, of the service behind it, which is
here, of nginx-db-auth, which this starts, and of nobody; and a folder for the database. The last line is `PASSED n/m`.
"""

import base64
import http.client
import json
import pathlib
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

web, service, decider, _ = (text.rsplit(":", 1) for text in sys.argv[1:5])
folder = pathlib.Path(sys.argv[5])
wrong, count, seen = [], 0, []
# Whoever is to read a path may GET it, and nothing else; the words are those of Weft's `X-Forwarded-*`.
QUERY = (
    "SELECT 1 FROM users WHERE name = :username AND password = :password AND method = :x_forwarded_method"
    " AND :x_forwarded_uri LIKE path || '%' AND host = :x_forwarded_host AND :x_forwarded_proto = 'http'"
    " AND :x_forwarded_for = '127.0.0.1' AND length(:x_request_id) > 8"
)


def check(what, good, told=""):
    global count
    count += 1
    if not good:
        wrong.append(what)
        print("FAILED", what, told, flush=True)


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        seen.append((self.command, self.path, {name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_GET

    def log_message(self, *_):
        pass


def ask(path, user=None, password="pa:ss wörd", method="GET", body=None, **headers):
    if user:
        headers["authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
    connection = http.client.HTTPConnection(web[0], int(web[1]), timeout=20)
    connection.request(method, path, body=body, headers={name.replace("_", "-"): text for name, text in headers.items()})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, answer.headers, text


def problem(text):
    try:
        return json.loads(text)["type"].replace("urn:weft:problem:", "")
    except (ValueError, KeyError):
        return None


def fill(lines):
    with sqlite3.connect(folder / "users.db") as database:
        database.execute("DROP TABLE IF EXISTS users")
        if lines is not None:
            database.execute("CREATE TABLE users (name, password, method, path, host)")
            database.executemany("INSERT INTO users VALUES (?, ?, ?, ?, ?)", lines)
    database.close()


def cases():
    place = ":".join(web)
    fill([
        ("ada", "pa:ss wörd", "GET", "/http/", place),
        ("ada", "pa:ss wörd", "POST", "/http/orders?", place),
        ("ada", "pa:ss wörd", "GET", "/http-open/", place),
        ("bob", "pa:ss wörd", "GET", "/http/", "elsewhere.example"),
    ])
    status, _, _ = ask("/http/1?a=b", "ada", x_forwarded_uri="/evil", x_forwarded_for="1.2.3.4", x_forwarded_method="PUT")
    check("whoever is known", status == 200 and seen[-1][1] == "/http/1?a=b", status)
    check("and what was shown goes on", seen[-1][2].get("authorization", "").startswith("Basic "), seen[-1][2])
    before = len(seen)
    status, fields, text = ask("/http/1")
    check("nobody is asked who it is", (status, text) == (401, b"AUTHENTICATE"), (status, text))
    check("by nothing of Weft's own", problem(text) is None and fields.get("content-type", "").startswith("text/html"), fields)
    for what, user, more in [
        ("a wrong password", "ada", {"password": "pass"}),
        ("a name that is none", "eve", {}),
        ("one of another host", "bob", {}),
        ("one that would be another host's", "bob", {"x_forwarded_host": "elsewhere.example"}),
        ("an attack on the query", "ada' OR '1'='1", {}),
        ("another method", "ada", {"method": "POST", "body": b"x"}),
    ]:
        status, _, text = ask("/http/1", user, **more)
        check(what, (status, text) == (403, b"FAIL"), (status, text))
    check("none of them gets to the service", len(seen) == before, seen[before:])
    status, _, _ = ask("/http/orders?new", "ada", method="POST", body=b"x" * 200_000)
    check("a body goes by the one that decides", status == 200 and len(seen[-1][3]) == 200_000, status)
    statuses = [ask("/http/1", "ada")[0] for _ in range(100)]
    check("a hundred, each over a connection of its own", statuses == [200] * 100, statuses)
    fill(None)
    status, _, text = ask("/http/1", "ada")
    check("without its database: closed", status == 503 and problem(text) == "authorization_unavailable", (status, text))
    check("without its database: open", ask("/http-open/1", "ada")[0] == 200)
    for path, expected in [("/http-away/1", 503), ("/http-away-open/1", 200)]:
        check(f"nobody is there: {path}", ask(path, "ada")[0] == expected)


threading.Thread(target=ThreadingHTTPServer((service[0], int(service[1])), Service).serve_forever, daemon=True).start()
(folder / "auth.ini").write_text(f"[default]\ndsn = sqlite:///{folder / 'users.db'}\nquery = {QUERY.replace('%', '%%')}\n")
fill([])
program = [sys.executable, "-c", "from ws.nginxdbauth.web import serve; serve()"]
options = ["--host", decider[0], "--port", decider[1], "--config", str(folder / "auth.ini")]
with open(folder / "decider.log", "w") as log:
    deciding = subprocess.Popen([*program, *options], stdout=log, stderr=log)
try:
    until = time.monotonic() + 30
    while True:
        try:
            socket.create_connection((decider[0], int(decider[1])), timeout=5).close()
            break
        except OSError:
            if deciding.poll() is not None or time.monotonic() > until:
                sys.exit(f"nginx-db-auth does not start: {(folder / 'decider.log').read_text()}")
            time.sleep(0.05)
    cases()
finally:
    deciding.terminate()
    deciding.wait(10)
print(f"PASSED {count - len(wrong)}/{count}")
sys.exit(1 if wrong or count < 15 else 0)

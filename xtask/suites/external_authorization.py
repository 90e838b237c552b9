"""Envoy's external authorization: a service of grpcio with Envoy's own messages decides, over a gateway that asks it.

external_authorization.py WHO WEB SERVICE DECIDER: who the gateway is, `weft` or `envoy`, and HOST:PORT of it, of the
service behind it and of the one that decides, which both are here. Where Weft does other than Envoy, a case says so.
The last line is `PASSED n/m`.
"""

import concurrent.futures
import http.client
import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import grpc
from envoy.config.core.v3 import base_pb2 as core
from envoy.service.auth.v3 import external_auth_pb2 as auth
from envoy.service.auth.v3 import external_auth_pb2_grpc as auth_grpc
from envoy.type.v3 import http_status_pb2
from google.protobuf import wrappers_pb2

who, web, service, decider = sys.argv[1:5]
is_weft = who == "weft"
wrong, count = [], 0
asked, seen = [], []
Actions = core.HeaderValueOption


def check(what, good, told=""):
    global count
    count += 1
    if not good:
        wrong.append(f"{what}: {told}")
        print("FAILED", what, told, flush=True)


def place(text):
    host, port = text.rsplit(":", 1)
    return host, int(port)


# --- the service behind

class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
        names = {}
        for name, value in self.headers.items():
            names.setdefault(name.lower(), []).append(value)
        seen.append((self.command, self.path, names, body))
        self.send_response(200)
        self.send_header("x-there", "old")
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    do_POST = do_PUT = do_GET

    def log_message(self, *_):
        pass


# --- the one that decides

def option(name, value, append=None, action=None, raw=None):
    header = core.HeaderValue(key=name, value=value) if raw is None else core.HeaderValue(key=name, raw_value=raw)
    of = core.HeaderValueOption(header=header)
    if append is not None:
        of.append.CopyFrom(wrappers_pb2.BoolValue(value=append))
    if action is not None:
        of.append_action = action
    return of


def allowed(*headers, remove=(), response=(), **more):
    ok = auth.OkHttpResponse(headers=headers, headers_to_remove=remove, response_headers_to_add=response, **more)
    return auth.CheckResponse(ok_response=ok)


def denied(status, *headers, body="", code=7):
    response = auth.CheckResponse(denied_response=auth.DeniedHttpResponse(headers=headers, body=body))
    response.status.code = code
    if status:
        response.denied_response.status.CopyFrom(http_status_pb2.HttpStatus(code=status))
    return response


def refused(code):
    response = auth.CheckResponse()
    response.status.code = code
    return response


def with_metadata():
    response = allowed()
    response.dynamic_metadata.update({"user": "ada", "roles": ["a", "b"]})
    response.ok_response.dynamic_metadata.update({"user": "ada"})
    return response


def with_error():
    response = refused(13)
    response.error_response.body = "it broke"
    response.error_response.status.CopyFrom(http_status_pb2.HttpStatus(code=500))
    return response


SAYS = {
    "allow": allowed,
    "nothing": auth.CheckResponse,
    "metadata": with_metadata,
    "compressed": allowed,
    "error": with_error,
    "slow": allowed,
    "long": lambda: denied(403, body="x" * 1_000_000),
    "large": lambda: denied(403, body="x" * 100_000),
    "set": lambda: allowed(option("x-user", "ada"), option("X-New", "1"), option("x-empty", "")),
    "raw": lambda: allowed(option("x-user", "", raw=b"ada")),
    "remove": lambda: allowed(option("x-user", "ada"), remove=["x-secret", "X-Other", "x-user", "x-none"]),
    "response": lambda: allowed(response=[
        option("x-seen", "1"), option("set-cookie", "a=1"), option("set-cookie", "b=2")]),
    "frames": lambda: allowed(
        option("content-length", "1"), option("transfer-encoding", "chunked"), option("connection", "x-user"),
        option("x-user", "ada")),
    "query": lambda: allowed(
        query_parameters_to_set=[core.QueryParameter(key="a", value="2")], query_parameters_to_remove=["b"]),
    "401": lambda: denied(401, option("www-authenticate", 'Bearer realm="x"'), body="who are you?", code=16),
    "302": lambda: denied(
        302, option("location", "https://id.example/login?a=b"), option("set-cookie", "a=1"), option("set-cookie", "b=2")),
    "429": lambda: denied(429, option("retry-after", "7"), body="äöü"),
    "503": lambda: denied(503, body="later"),
    "plain": lambda: denied(0),
    "PERMISSION_DENIED": lambda: refused(7),
    "UNAUTHENTICATED": lambda: refused(16),
}
# What becomes of a header that is there with `old`, and of one that is not, by how it is to be added.
APPENDS = {
    "unset": (None, None),
    "true": (True, None),
    "false": (False, None),
    "append": (None, Actions.APPEND_IF_EXISTS_OR_ADD),
    "absent": (None, Actions.ADD_IF_ABSENT),
    "overwrite": (None, Actions.OVERWRITE_IF_EXISTS_OR_ADD),
    "present": (None, Actions.OVERWRITE_IF_EXISTS),
}
SAYS.update({
    f"how-{name}": lambda how=how: allowed(option("x-there", "new", *how), option("x-not", "new", *how))
    for name, how in APPENDS.items()
})
SAYS.update({
    f"answer-{name}": lambda how=how: allowed(response=[option("x-there", "new", *how), option("x-not", "new", *how)])
    for name, how in APPENDS.items()
})
SAYS.update({
    f"deny-{name}": lambda how=how: denied(403, option("x-a", "1", *how), option("x-a", "2", *how))
    for name, how in APPENDS.items()
})


class Decider(auth_grpc.AuthorizationServicer):
    def Check(self, request, context):
        asked.append(request.attributes)
        say = request.attributes.request.http.headers.get("x-say", "allow")
        if say == "slow":
            time.sleep(3)
        elif say == "compressed":
            context.set_compression(grpc.Compression.Gzip)
        elif say in ("UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED"):
            context.abort(grpc.StatusCode[say], "not now")
        elif say == "abort":
            context.abort(grpc.StatusCode.PERMISSION_DENIED, "as gRPC says it")
        elif say == "raise":
            raise RuntimeError("as meant by the suite")
        context.send_initial_metadata((("x-initial", "1"),))
        context.set_trailing_metadata((("x-trailing", "1"),))
        return SAYS[say]()


def decide(**options):
    server = grpc.server(
        concurrent.futures.ThreadPoolExecutor(16), options=[(f"grpc.{name}", value) for name, value in options.items()])
    auth_grpc.add_AuthorizationServicer_to_server(Decider(), server)
    if not server.add_insecure_port(decider):
        sys.exit(f"{decider} cannot be bound")
    server.start()
    return server


# --- the clients

def ask(path, say=None, method="GET", headers=(), body=None, chunked=False):
    connection = http.client.HTTPConnection(*place(web), timeout=20)
    connection.putrequest(method, path)
    for name, value in [*([("x-say", say)] if say else []), *headers]:
        connection.putheader(name, value)
    if chunked:
        connection.putheader("transfer-encoding", "chunked")
        connection.endheaders()
        half = len(body) // 2
        for part in (body[:half], body[half:]):
            connection.send(b"%x\r\n%s\r\n" % (len(part), part))
        connection.send(b"0\r\n\r\n")
    else:
        if body is not None:
            connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, answer.headers, text


def served(path, say=None, **more):
    """What the service is shown of a request that must get there."""
    before = len(seen)
    status, fields, _ = ask(path, say, **more)
    if status != 200 or len(seen) != before + 1:
        check(f"{path} {say}: it gets to the service", False, f"{status}, {len(seen) - before} requests")
        return "", "", {}, b"", fields
    return *seen[-1], fields


def problem(text):
    try:
        return json.loads(text)["type"].replace("urn:weft:problem:", "")
    except (ValueError, KeyError):
        return None


def until(what, within, holds):
    end = time.monotonic() + within
    while not holds():
        if time.monotonic() > end:
            return check(what, False, f"not within {within} s")
        time.sleep(0.05)
    return check(what, True)


# --- the cases

def what_it_is_shown():
    method, path, names, body, _ = served("/grpc/1?a=b&c", headers=[
        ("X-Many", "1"), ("x-many", "2"), ("cookie", "a=1"), ("cookie", "b=2"), ("authorization", "Bearer t"),
        ("user-agent", "a stranger")], method="POST", body=b"hello")
    check("method, path and body get to the service", (method, path, body) == ("POST", "/grpc/1?a=b&c", b"hello"))
    of = asked[-1]
    http_ = of.request.http
    check("method", http_.method == "POST", http_.method)
    check("path", http_.path == "/grpc/1?a=b&c", http_.path)
    check("host", http_.host == web, http_.host)
    check("scheme", http_.scheme == "http", http_.scheme)
    check("protocol", http_.protocol == "HTTP/1.1", http_.protocol)
    # Envoy says what it has read so far.
    check("size", http_.size == (5 if is_weft else 0), http_.size)
    check("no body unless it is asked for", http_.body == "" and http_.raw_body == b"", http_.body)
    check("id", http_.id != "" and (not is_weft or names.get("x-request-id") == [http_.id]), http_.id)
    check("headers in lower case, joined", http_.headers.get("x-many") == "1,2", http_.headers.get("x-many"))
    # Envoy makes of two one that nobody can take apart (RFC 9113 section 8.2.3).
    cookies = "a=1; b=2" if is_weft else "a=1,b=2"
    check("cookies", http_.headers.get("cookie") == cookies, http_.headers.get("cookie"))
    check("credentials", http_.headers.get("authorization") == "Bearer t")
    check("agent", http_.headers.get("user-agent") == "a stranger")
    for name, value in [(":method", "POST"), (":path", "/grpc/1?a=b&c"), (":scheme", "http"), (":authority", web)]:
        check(f"header {name}", http_.headers.get(name) == value, http_.headers.get(name))
    source, destination = of.source.address.socket_address, of.destination.address.socket_address
    check("source", source.address == "127.0.0.1" and source.port_value > 1023, source)
    check("destination", (destination.address, destination.port_value) == place(web), destination)
    check("time", abs(of.request.time.seconds - time.time()) < 5, of.request.time)
    check("context", dict(of.context_extensions) == {"rules": "refunds"}, of.context_extensions)


def what_it_changes():
    for say in ("allow", "nothing", "metadata", "compressed"):
        *_, names, _, fields = served("/grpc/1", say)
        check(f"{say}: it goes on as it is", fields.get("x-there") == "old" and "x-user" not in names, names)
    forged = [("x-user", "root"), ("x-secret", "1"), ("x-other", "1"), ("x-kept", "1")]
    *_, names, _, _ = served("/grpc/1", "set", headers=forged)
    check("set: one takes the place of what a client says", names.get("x-user") == ["ada"], names)
    check("set: and one is new", names.get("x-new") == ["1"] and names.get("x-kept") == ["1"], names)
    check("set: and one is empty", names.get("x-empty") == [""], names)
    if is_weft:
        # Envoy reads no raw value here.
        *_, names, _, _ = served("/grpc/1", "raw", headers=forged)
        check("raw: bytes are a value", names.get("x-user") == ["ada"], names)
    *_, names, _, _ = served("/grpc/1", "remove", headers=forged)
    check("remove: they are gone", "x-secret" not in names and "x-other" not in names, names)
    check("remove: and others are not", names.get("x-kept") == ["1"], names)
    check("remove: nor is what is set as well", "x-user" not in names, names)
    *_, names, _, fields = served("/grpc/1", "response")
    check("response: a header", fields.get("x-seen") == "1" and fields.get("x-there") == "old", fields)
    check("response: two cookies", fields.get_all("set-cookie") == ["a=1", "b=2"], fields.get_all("set-cookie"))
    check("response: and not for the service", "x-seen" not in names, names)
    if is_weft:
        *_, body, _ = served("/grpc/1", "frames", method="POST", body=b"whole")
        check("frames: what frames a message is left alone", body == b"whole", body)
        check("frames: and so is what is not", seen[-1][2].get("x-user") == ["ada"], seen[-1][2])
    # Envoy changes the query; Weft says that it does not.
    _, path, *_ = served("/grpc/1?a=1&b=1", "query")
    check("query", path == "/grpc/1?a=1&b=1" if is_weft else path == "/grpc/1?a=2", path)


def how_it_adds():
    replaced, appended, kept, new = ["new"], ["old", "new"], ["old"], ["new"]
    # Of a request, Envoy passes over `append_action`, and appends to nothing that is not there.
    for name, there, absent in [
        ("unset", replaced, new),
        ("true", appended, new if is_weft else None),
        ("false", replaced, new),
        ("append", replaced, new),
        ("absent", kept if is_weft else replaced, new),
        ("overwrite", replaced, new),
        ("present", replaced, None if is_weft else new),
    ]:
        *_, names, _, _ = served("/grpc/1", f"how-{name}", headers=[("x-there", "old")])
        lines = [part for line in names.get("x-there", []) for part in line.split(",")]
        check(f"request, {name}: one that is there", lines == there, lines)
        check(f"request, {name}: one that is not", names.get("x-not") == absent, names.get("x-not"))
    for name, there, absent in [
        ("unset", appended, new),
        ("true", appended, new),
        ("false", replaced, new),
        ("append", appended, new),
        ("absent", kept, new),
        ("overwrite", replaced, new),
        ("present", replaced, None),
    ]:
        *_, fields = served("/grpc/1", f"answer-{name}")
        check(f"response, {name}: one that is there", fields.get_all("x-there") == there, fields.get_all("x-there"))
        check(f"response, {name}: one that is not", fields.get_all("x-not") == absent, fields.get_all("x-not"))
    for name in APPENDS:
        told = ["1", "2"] if is_weft or name != "true" else None
        _, fields, _ = ask("/grpc/1", f"deny-{name}")
        check(f"denial, {name}: both of a name", fields.get_all("x-a") == told, fields.get_all("x-a"))


def whom_it_denies():
    for say, status, header, text in [
        ("401", 401, ("www-authenticate", 'Bearer realm="x"'), b"who are you?"),
        ("302", 302, ("location", "https://id.example/login?a=b"), b""),
        ("429", 429, ("retry-after", "7"), "äöü".encode()),
        ("503", 503, None, b"later"),
        ("large", 403, None, b"x" * 100_000),
        ("plain", 403, None, b""),
        ("PERMISSION_DENIED", 403, None, None),
        ("UNAUTHENTICATED", 403, None, None),
    ]:
        before = len(seen)
        got, fields, body = ask("/grpc/1", say)
        check(f"{say}: the status", got == status, got)
        check(f"{say}: the body", text is None or body == text, body[:100])
        if header:
            check(f"{say}: a header", fields.get(header[0]) == header[1], fields)
        check(f"{say}: the service is not asked", len(seen) == before)
    _, fields, _ = ask("/grpc/1", "302")
    check("302: two cookies", fields.get_all("set-cookie") == ["a=1", "b=2"], fields.get_all("set-cookie"))
    for path in ("/open/1", "/body/1"):
        check(f"denied at {path} as well", ask(path, "401")[0] == 401)
    with grpc.insecure_channel(web) as channel:
        call = channel.unary_unary("/grpc/x.Y/Z")
        for say, code in [("401", "UNAUTHENTICATED"), ("PERMISSION_DENIED", "PERMISSION_DENIED")]:
            try:
                call(b"", metadata=(("x-say", say),), timeout=10)
                got = "OK"
            except grpc.RpcError as error:
                got = error.code().name
            check(f"{say}: a client of gRPC", got == code, got)


def what_it_is_shown_of_bodies():
    text, raw = "grüße".encode() * 100, bytes(range(256)) * 8
    for what, body, chunked in [
        ("text", text, False), ("chunks of text", text, True), ("bytes", raw, False),
        ("the largest", b"x" * 8192, False), ("the largest in chunks", b"x" * 8192, True), ("none", b"", False),
    ]:
        *_, got, _ = served("/body/1", method="PUT", body=body, chunked=chunked)
        check(f"body, {what}: the service gets it", got == body, len(got))
        http_ = asked[-1].request.http
        try:
            shown = http_.body.encode() == body and http_.raw_body == b"" if body.decode() is not None else False
        except UnicodeDecodeError:
            # Envoy shows bytes only where it is told to, and then text as well.
            shown = http_.raw_body == body and http_.body == "" if is_weft else True
        check(f"body, {what}: and so does the one that decides", shown, (len(http_.body), len(http_.raw_body)))
        check(f"body, {what}: its size", chunked or http_.size == len(body), http_.size)
    for chunked in (False, True):
        before = (len(seen), len(asked))
        status, _, body = ask("/body/1", method="PUT", body=b"x" * 8193, chunked=chunked)
        check(f"one that is too long, chunked {chunked}", status == 413, status)
        check("is shown to nobody", (len(seen), len(asked)) == before)
        check("and told as such", not is_weft or problem(body) == "body_too_large", body)
    *_, got, _ = served("/grpc/1", method="PUT", body=b"x" * 300_000)
    check("a long one where none is shown", len(got) == 300_000, len(got))


def who_decides_nothing():
    says = ["UNAVAILABLE", "INTERNAL", "DEADLINE_EXCEEDED", "abort", "raise", "slow", "error"]
    # Envoy takes an answer of any length.
    says += ["long"] if is_weft else []
    for say in says:
        before, began = len(seen), time.monotonic()
        status, _, body = ask("/grpc/1", say)
        # Envoy lets the client have what is said of a failure.
        closed = (503, "authorization_unavailable") if is_weft else (500 if say == "error" else 503, None)
        check(f"{say}: closed", (status, problem(body)) == closed, (status, body))
        check(f"{say}: the service is not asked", len(seen) == before)
        check(f"{say}: in time", time.monotonic() - began < 2.5, time.monotonic() - began)
        *_, names, _, _ = served("/open/1", say, headers=[("x-user", "root")])
        check(f"{say}: open", names.get("x-say") == [say], names)
    for path, status in [("/away/1", 503), ("/away-open/1", 200)]:
        got = ask(path)[0]
        check(f"nobody is there: {path}", got == status, got)


def how_long_it_stays(server):
    server.stop(None).wait()
    check("it has gone: closed", ask("/grpc/1")[0] == 503)
    check("it has gone: open", ask("/open/1")[0] == 200)
    server = decide(max_connection_age_ms=300, max_connection_age_grace_ms=2000)
    until("it is back", 15, lambda: ask("/grpc/1")[0] == 200)
    if is_weft:
        # Envoy fails some calls over connections that end.
        began, codes = time.monotonic(), []
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            while len(codes) < 400 or time.monotonic() < began + 1:
                codes += pool.map(lambda _: ask("/grpc/1")[0], range(100))
        check("its connections grow old", set(codes) == {200}, {code: codes.count(code) for code in set(codes)})
    server.stop(None).wait()


threading.Thread(target=ThreadingHTTPServer(place(service), Service).serve_forever, daemon=True).start()
deciding = decide()
with socket.create_connection(place(web), timeout=10):
    pass
until("requests are let through", 20, lambda: ask("/grpc/1")[0] == 200)
for part in (what_it_is_shown, what_it_changes, how_it_adds, whom_it_denies, what_it_is_shown_of_bodies, who_decides_nothing):
    part()
how_long_it_stays(deciding)
print(f"PASSED {count - len(wrong)}/{count}")
sys.exit(1 if wrong or count < 150 else 0)

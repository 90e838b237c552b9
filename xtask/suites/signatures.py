"""Requests signed by http-message-signatures of PyPI and of npm, by every algorithm, against a Weft that knows the keys.

signatures.py WEB HERE FOLDER: the port of Weft, the one on which this is the service behind, and the folder with the
private keys, NAME.key, and the secret.
"""

import http.client
import json
import pathlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver, algorithms

web, here, folder = int(sys.argv[1]), int(sys.argv[2]), pathlib.Path(sys.argv[3])
ALGORITHMS = {
    "ed25519": algorithms.ED25519,
    "p256": algorithms.ECDSA_P256_SHA256,
    "p384": algorithms.ECDSA_P384_SHA384,
    "pss": algorithms.RSA_PSS_SHA512,
    "v15": algorithms.RSA_V1_5_SHA256,
    "secret": algorithms.HMAC_SHA256,
}
USUAL = ("@method", "@authority", "@path", "@query")


class Here(BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_):
        pass


threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", here), Here).serve_forever, daemon=True).start()


class Keys(HTTPSignatureKeyResolver):
    def resolve_private_key(self, key_id):
        name = "secret" if key_id == "secret" else f"{key_id}.key"
        return (folder / name).read_bytes()

    resolve_public_key = resolve_private_key


class Request:
    """What the library asks of a request."""

    def __init__(self, method, target, body=None):
        self.method, self.target, self.body = method, target, body
        self.url = f"http://127.0.0.1:{web}{target}"
        self.headers = {"host": f"127.0.0.1:{web}", "date": "Tue, 20 Apr 2021 02:07:55 GMT"}
        if body is not None:
            self.headers["content-type"] = "application/json"

    def signed(self, key, components=USUAL, **more):
        if self.body is not None:
            components = (*components, "content-digest")
            more["body"] = self.body
        signer = HTTPMessageSigner(signature_algorithm=ALGORITHMS[key], key_resolver=Keys())
        signer.sign(self, key_id=key, covered_component_ids=components, **more)
        return self

    def send(self):
        connection = http.client.HTTPConnection("127.0.0.1", web, timeout=10)
        connection.request(self.method, self.target, self.body, self.headers)
        answer = connection.getresponse()
        return answer.status, answer.read()


passed = count = 0


def check(what, found, status, consumer=None):
    global passed, count
    count += 1
    answer, body = found
    told = json.loads(body).get("x-consumer-username") if answer == 200 else None
    if (answer, told) == (status, consumer):
        passed += 1
    else:
        print("FAILED", what, found)


for name in ALGORITHMS:
    check(name, Request("GET", "/orders/1?a=b%20c&d").signed(name).send(), 200, name)
    check(f"{name}, a body", Request("POST", "/orders/1", b'{"a": 1}').signed(name).send(), 200, name)
    other = Request("GET", "/orders/1").signed(name)
    other.target = "/orders/2"
    check(f"{name}, another path", other.send(), 401)
    other = Request("POST", "/orders/1", b'{"a": 1}').signed(name)
    other.body = b'{"a": 2}'
    check(f"{name}, another body", other.send(), 401)
    other = Request("GET", "/orders/1").signed(name, include_alg=False)
    check(f"{name}, no alg", other.send(), 200, name)

target = "/orders/%7Ea/b?Pet=dog&empty="
for components in [
    ("@method", "@target-uri"),
    ("@method", "@authority", "@request-target"),
    ("@scheme", *USUAL),
    ("date", "content-type", *USUAL),
    ('"@query-param";name="Pet"', *USUAL),
]:
    request = Request("POST", target, b"{}")
    check(f"{components}", request.signed("ed25519", components).send(), 200, "ed25519")
check("nothing covered", Request("GET", target).signed("ed25519", ()).send(), 401)

once = Request("GET", "/once/1").signed("p256", nonce="n", tag="orders")
check("a nonce", once.send(), 200, "p256")
check("a nonce again", once.send(), 401)
check("no tag", Request("GET", "/once/1").signed("p256", nonce="m").send(), 401)

two = Request("GET", "/once/1").signed("ed25519", label="a")
two.signed("pss", label="b", nonce="n", tag="orders", append_if_signature_exists=True)
check("one of two, by its tag", two.send(), 200, "pss")
two = Request("GET", "/orders/1").signed("ed25519", label="a")
two.signed("pss", label="b", append_if_signature_exists=True)
check("two that would do", two.send(), 401)

# The same service answers the clients of Node.js.
node = [str(pathlib.Path(__file__).with_name("signatures_node.cjs")), str(web), str(folder)]
lines = subprocess.run(["node", *node], stdout=subprocess.PIPE, text=True, timeout=120).stdout.splitlines()
print("\n".join(lines[:-1]))
of_node = lines[-1].removeprefix("PASSED ").split("/") if lines else ["0", "1"]
passed, count = passed + int(of_node[0]), count + int(of_node[1])

print(f"PASSED {passed}/{count}")
sys.exit(passed != count)

"""Tokens of PyJWT, by every algorithm, against a Weft that fetches the keys from here.

tokens.py WEB HERE: the port of Weft, and the one on which this serves the keys and is the service behind.
"""

import base64
import hashlib
import hmac
import json
import sys
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

web, here = int(sys.argv[1]), int(sys.argv[2])
SECRET = b"a secret of sixty-four characters, as long as HS512 needs it....."
KEYS = {
    "rsa": (rsa.generate_private_key(65537, 2048), RSAAlgorithm),
    "p256": (ec.generate_private_key(ec.SECP256R1()), ECAlgorithm),
    "p384": (ec.generate_private_key(ec.SECP384R1()), ECAlgorithm),
    "p521": (ec.generate_private_key(ec.SECP521R1()), ECAlgorithm),
    "ed": (ed25519.Ed25519PrivateKey.generate(), OKPAlgorithm),
}
BY = {
    **{name: "rsa" for name in ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")},
    "ES256": "p256", "ES384": "p384", "ES512": "p521", "EdDSA": "ed",
}


def jwks():
    listed = []
    for kid, (key, algorithm) in KEYS.items():
        listed.append({**json.loads(algorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"})
    return json.dumps({"keys": listed}).encode()


SET = jwks()


class Here(BaseHTTPRequestHandler):
    def do_GET(self):
        names = {name.lower(): value for name, value in self.headers.items()}
        body = SET if self.path == "/keys" else json.dumps(names).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


threading.Thread(target=ThreadingHTTPServer(("127.0.0.1", here), Here).serve_forever, daemon=True).start()


def ask(token):
    request = urllib.request.Request(f"http://127.0.0.1:{web}/", headers={"authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers)


def claims(**others):
    now = int(time.time())
    return {"iss": "https://id.example", "aud": ["orders"], "sub": "ada", "exp": now + 60, "iat": now, **others}


def made(algorithm, **others):
    if algorithm.startswith("HS"):
        return jwt.encode(claims(iss="https://shared.example", **others), SECRET, algorithm=algorithm)
    kid = BY[algorithm]
    return jwt.encode(claims(**others), KEYS[kid][0], algorithm=algorithm, headers={"kid": kid})


def forged(header, secret):
    """By HMAC-SHA256 with any secret, which PyJWT would not do with a public key."""
    part = lambda of: base64.urlsafe_b64encode(of).rstrip(b"=")
    text = part(json.dumps(header).encode()) + b"." + part(json.dumps(claims()).encode())
    return (text + b"." + part(hmac.new(secret, text, hashlib.sha256).digest())).decode()


def cases():
    for algorithm in [*BY, "HS256", "HS384", "HS512"]:
        yield f"{algorithm}", made(algorithm), 200
        yield f"{algorithm} that has expired", made(algorithm, exp=int(time.time()) - 61), 401
        yield f"{algorithm} within the skew", made(algorithm, exp=int(time.time()) - 30), 200
        yield f"{algorithm} for others", made(algorithm, aud="payments"), 401
        yield f"{algorithm} of later", made(algorithm, nbf=int(time.time()) + 120), 401
        head, body, signature = made(algorithm).split(".")
        yield f"{algorithm} with other claims", ".".join([head, made(algorithm, sub="eve").split(".")[1], signature]), 401
    yield "none", jwt.encode(claims(), None, algorithm="none"), 401
    yield "crit", jwt.encode(claims(), KEYS["p256"][0], algorithm="ES256", headers={"kid": "p256", "crit": ["x"], "x": 1}), 401
    yield "another key", jwt.encode(claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256", headers={"kid": "p256"}), 401
    yield "no kid", jwt.encode(claims(), KEYS["p256"][0], algorithm="ES256"), 200
    for encoding, form in [("PEM", "SubjectPublicKeyInfo"), ("DER", "SubjectPublicKeyInfo"), ("PEM", "PKCS1")]:
        public = KEYS["rsa"][0].public_key().public_bytes(
            getattr(serialization.Encoding, encoding), getattr(serialization.PublicFormat, form))
        yield f"a public key as a secret, {encoding}", forged({"alg": "HS256", "kid": "rsa"}, public), 401


# The keys are fetched once this serves them.
until = time.monotonic() + 30
while ask(made("ES256"))[0] != 200:
    if time.monotonic() > until:
        sys.exit("no token is let through")
    time.sleep(0.2)
wrong, count = [], 0
for name, token, expected in cases():
    count += 1
    status, told = ask(token)
    if status != expected or (status == 200 and told.get("x-user") != "ada") or "authorization" in told:
        wrong.append(f"{name}: {status}, and not {expected}: {told}")
if wrong:
    sys.exit("\n".join(wrong))
print(f"PASSED {count}/{count}")

// Requests signed by http-message-signatures of npm, by every algorithm, against a Weft that knows the keys.
//
// usage: signatures_node.cjs WEB FOLDER: the port of Weft, and the folder with the private keys, NAME.key, and the
// secret; the last line is `PASSED n/m`.
"use strict";

const { createHash, createPrivateKey } = require("node:crypto");
const fs = require("node:fs");
const path = require("node:path");
const { createSigner, httpbis } = require("http-message-signatures");

const [web, folder] = process.argv.slice(2);
const base = `http://127.0.0.1:${web}`;
// Of RSA PSS it salts with as much as there is room for, where RFC 9421 section 3.3.1 says 64 bytes.
const ALGORITHMS = {
  ed25519: "ed25519",
  p256: "ecdsa-p256-sha256",
  p384: "ecdsa-p384-sha384",
  v15: "rsa-v1_5-sha256",
  secret: "hmac-sha256",
};
let passed = 0;
let count = 0;

function signer(name) {
  const file = fs.readFileSync(path.join(folder, name === "secret" ? name : `${name}.key`));
  return createSigner(name === "secret" ? file : createPrivateKey(file), ALGORITHMS[name], name);
}

async function ask(name, url, body, changed = {}) {
  const headers = { host: `127.0.0.1:${web}` };
  const fields = ["@method", "@authority", "@path", "@query"];
  if (body !== undefined) {
    headers["content-digest"] = `sha-512=:${createHash("sha512").update(body).digest("base64")}:`;
    fields.push("content-digest");
  }
  const message = { method: body === undefined ? "GET" : "POST", url: base + url, headers };
  const { headers: signed } = await httpbis.signMessage({ key: signer(name), fields }, message);
  delete signed.host;
  const sent = { method: message.method, headers: signed, body };
  const answer = await fetch(base + (changed.url ?? url), { ...sent, ...changed.init });
  const told = answer.ok ? (await answer.json())["x-consumer-username"] : undefined;
  return `${answer.status} ${told}`;
}

async function check(what, found, expected) {
  count += 1;
  const seen = await found.catch((error) => String(error));
  if (seen === expected) passed += 1;
  else console.log("FAILED", what, seen);
}

async function main() {
  for (const name of Object.keys(ALGORITHMS)) {
    await check(name, ask(name, "/orders/1?a=b"), `200 ${name}`);
    await check(`${name}, a body`, ask(name, "/orders/1?a=b", '{"a":1}'), `200 ${name}`);
    await check(`${name}, another path`, ask(name, "/orders/1?a=b", undefined, { url: "/orders/2?a=b" }), "401 undefined");
    await check(`${name}, another body`, ask(name, "/orders/1?a=b", '{"a":1}', { init: { body: '{"a":2}' } }), "401 undefined");
  }
  console.log(`PASSED ${passed}/${count}`);
  process.exit(passed === count ? 0 : 1);
}

main();

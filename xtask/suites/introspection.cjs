// Opaque tokens of oidc-provider of npm: asked about by Weft (RFC 7662), fetched by it for a service (RFC 6749 section
// 4.4), and fetched in exchange (RFC 8693).
//
// usage: introspection.cjs WEB SERVICE BASIC POST FOLDER, each HOST:PORT: Weft; where this is the service, a provider
// whose clients authenticate by `client_secret_basic`, and one by `client_secret_post`; and the folder with the public
// keys, NAME.pem, of clients that sign (`private_key_jwt`). The last line is `PASSED n/m`.
"use strict";

const { createPublicKey } = require("node:crypto");
const fs = require("node:fs");
const http = require("node:http");
const { Provider, errors } = require("oidc-provider");

const [web, service, ...places] = process.argv.slice(2, 6);
const folder = process.argv[6];
const SECRET = "a secret: 100% of/+&= that both know, or not";
const ORDERS = "urn:orders";
const EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange";
// As in the configuration of Weft.
const CACHE = 4000;
const LIVES = { brief: 2 };
const METHODS = ["client_secret_basic", "client_secret_post"];
const SIGNING = { rsa: "RS256", p256: "ES256", p384: "ES384", ed25519: "EdDSA" };
let passed = 0;
let count = 0;
// What becomes of all requests of providers: nothing, `hang`, or a status.
let trouble = null;
const told = [];

function check(what, good, seen = "") {
  count += 1;
  if (good) passed += 1;
  else console.log("FAILED", what, typeof seen === "string" ? seen : JSON.stringify(seen));
}

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const port = (place) => Number(place.split(":")[1]);

// The service says what it was sent; at `/picky` it takes no token until it is told to.
let isPicky = false;
http
  .createServer((request, response) => {
    response.statusCode = isPicky && request.url.includes("picky") ? 401 : 200;
    response.end(JSON.stringify({ url: request.url, ...request.headers }));
  })
  .listen(port(service), "127.0.0.1");

// The grant of an exchange is ours; who the client is, what stands in the form, and the tokens are the provider's.
async function exchange(ctx) {
  const { params, client, provider } = ctx.oidc;
  const subject = await provider.AccessToken.find(params.subject_token);
  if (params.subject_token_type !== "urn:ietf:params:oauth:token-type:access_token") throw new errors.InvalidRequest("its type");
  if (!subject) throw new errors.InvalidGrant("the subject token is not good");
  const token = new provider.AccessToken({ client, accountId: subject.accountId, grantId: subject.grantId, scope: params.scope });
  token.setAudience(params.audience);
  const value = await token.save();
  ctx.body = { access_token: value, issued_token_type: params.subject_token_type, token_type: token.tokenType, expires_in: token.expiration };
}

function serve(place, method) {
  const client = { redirect_uris: [], response_types: [], token_endpoint_auth_method: method, client_secret: SECRET };
  const own = { grant_types: ["client_credentials", EXCHANGE], scope: "read write" };
  const ids = ["shop", "brief", "weft: & co", "unknown"];
  const signing = Object.entries(SIGNING).map(([name, algorithm]) => ({
    ...client,
    ...own,
    client_id: `key-${name}`,
    client_secret: undefined,
    token_endpoint_auth_method: "private_key_jwt",
    token_endpoint_auth_signing_alg: algorithm,
    jwks: { keys: [{ ...createPublicKey(fs.readFileSync(`${folder}/${name}.pem`)).export({ format: "jwk" }), kid: `${name}-1` }] },
  }));
  const provider = new Provider(`http://${place}`, {
    clients: [...ids.map((client_id) => ({ ...client, ...own, client_id })), ...signing],
    clientAuthMethods: [...METHODS, "private_key_jwt"],
    enabledJWA: { clientAuthSigningAlgValues: Object.values(SIGNING) },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true, allowedPolicy: async () => true },
      resourceIndicators: {
        enabled: true,
        defaultResource: async () => undefined,
        getResourceServerInfo: async () => ({ scope: "read write", accessTokenFormat: "opaque" }),
        useGrantedResource: async () => true,
      },
      revocation: { enabled: true, allowedPolicy: async () => true },
    },
    scopes: ["read", "write"],
    ttl: {
      AccessToken: (_ctx, _token, client) => LIVES[client.clientId] ?? 600,
      ClientCredentials: (_ctx, _token, client) => LIVES[client.clientId] ?? 600,
      Grant: 600,
    },
  });
  provider.registerGrantType(EXCHANGE, exchange, ["subject_token", "subject_token_type", "audience", "scope"], []);
  const answer = provider.callback();
  const server = http.createServer((request, response) => {
    told.push({ place, path: request.url, basic: request.headers.authorization !== undefined });
    if (trouble === "hang") return;
    if (trouble !== null) {
      response.statusCode = trouble;
      response.end("trouble");
      return;
    }
    answer(request, response);
  });
  server.listen(port(place), "127.0.0.1");
  return { place, method, provider, server };
}

function asked(path) {
  return told.filter((one) => one.path === path).length;
}

function post({ place, method }, path, id, fields) {
  const form = new URLSearchParams(fields);
  const headers = {};
  if (method === "client_secret_post") {
    form.set("client_id", id);
    form.set("client_secret", SECRET);
  } else {
    const both = [id, SECRET].map(encodeURIComponent).join(":");
    headers.authorization = `Basic ${Buffer.from(both).toString("base64")}`;
  }
  return fetch(`http://${place}${path}`, { method: "POST", headers, body: form });
}

async function drawn(at, id, scope, resource = ORDERS) {
  const answer = await post(at, "/token", id, { grant_type: "client_credentials", ...(scope && { scope }), ...(resource && { resource }) });
  const said = await answer.json();
  if (!said.access_token) throw new Error(JSON.stringify(said));
  return said.access_token;
}

const revoke = (at, token, id = "shop") => post(at, "/token/revocation", id, { token });

// A token of a person, and the one that refreshes it, as a login would have ended with.
async function person({ provider }) {
  const client = await provider.Client.find("shop");
  const grant = new provider.Grant({ accountId: "ada", clientId: "shop" });
  grant.addResourceScope(ORDERS, "read");
  const grantId = await grant.save();
  const all = { client, accountId: "ada", grantId, gty: "authorization_code", scope: "read" };
  const token = new provider.AccessToken(all);
  token.setAudience(ORDERS);
  return [await token.save(), await new provider.RefreshToken(all).save()];
}

function ask(path, token, headers = {}) {
  const shown = token === undefined ? headers : { authorization: `Bearer ${token}`, ...headers };
  return new Promise((resolve, reject) => {
    const options = { headers: shown, agent: false };
    const request = http.get(`http://${web}${path}`, options, (answer) => {
      let text = "";
      answer.on("data", (piece) => { text += piece; });
      answer.on("end", () => {
        const is = JSON.parse(text || "{}");
        const problem = (is.type ?? "").replace("urn:weft:problem:", "");
        resolve({ status: answer.statusCode, problem, is, headers: answer.headers });
      });
    });
    request.on("error", reject);
  });
}

async function statuses(path, token, expected) {
  const { status } = await ask(path, token);
  return status === expected;
}

async function until(what, within, holds) {
  const end = Date.now() + within;
  while (!(await holds())) {
    if (Date.now() > end) return check(what, false, `not within ${within} ms`);
    await sleep(50);
  }
  return check(what, true);
}

const INTROSPECTION = "/token/introspection";

// What a token is, for each way in which Weft shows who it is.
async function kinds(at, way) {
  const [read, write] = [await drawn(at, "shop", "read"), await drawn(at, "shop", "read write")];
  const before = asked(INTROSPECTION);
  const good = await ask(`/${way}/1`, read);
  check(`${way}: a good token`, good.status === 200, good);
  check(`${way}: its consumer`, good.is["x-consumer-username"] === "shop", good.is);
  check(`${way}: its claims`, good.is["x-client"] === "shop" && good.is["x-scope"] === "read", good.is);
  check(`${way}: it goes no further`, good.is.authorization === undefined, good.is);
  check(`${way}: and is remembered`, (await statuses(`/${way}/2`, read, 200)) && asked(INTROSPECTION) === before + 1);
  const lacks = await ask(`/${way}-write/1`, read);
  check(`${way}: it lacks a scope`, lacks.status === 403 && lacks.problem === "insufficient_scope", lacks);
  check(`${way}: which is named`, /error="insufficient_scope".*scope="write"/.test(lacks.headers["www-authenticate"] ?? ""), lacks.headers);
  check(`${way}: a token with both scopes`, await statuses(`/${way}-write/1`, write, 200));

  for (const [what, token] of [
    ["nobody's", "x".repeat(43)],
    ["with a letter more", `${read}x`],
    ["of every letter that may stand in one", "-._~+/=="],
    ["for another service", await drawn(at, "shop", "read", "urn:payments")],
    ["for no service", await drawn(at, "shop", "", null)],
    ["of a client that is no consumer", await drawn(at, "unknown", "read")],
    ["that refreshes another", (await person(at))[1]],
    ["of another kind, which the provider will not hear of", "eyJhbGciOiJIUzI1NiJ9.e30.AAAA"],
  ]) {
    const refused = await ask(`/${way}/1`, token);
    check(`${way}: a token ${what}`, refused.status === 401 && refused.problem === "unauthenticated", refused);
    const shown = refused.headers["www-authenticate"] ?? "";
    check(`${way}: ${what}, as RFC 6750 says it`, shown.startsWith("Bearer") && shown.includes('error="invalid_token"'), shown);
  }
  const none = await ask(`/${way}/1`);
  check(`${way}: no token`, none.status === 401 && !(none.headers["www-authenticate"] ?? "").includes("error="), none);

  const [ada] = await person(at);
  const hers = await ask(`/${way}/1`, ada, { "x-sub": "root", "x-consumer-username": "root" });
  check(`${way}: a token of a person`, hers.status === 200 && hers.is["x-sub"] === "ada" && hers.is["x-consumer-username"] === "shop", hers.is);
}

// Its end, by its time and by its owner.
async function ends(at, way) {
  const [long, never] = [await drawn(at, "shop", "read"), await drawn(at, "shop", "read")];
  const brief = await drawn(at, "brief", "read");
  const drawnAt = Date.now();
  check(`${way}: a token of two seconds`, await statuses(`/${way}/1`, brief, 200));
  check(`${way}: a token of ten minutes`, await statuses(`/${way}/1`, long, 200));
  const seen = Date.now();
  await revoke(at, never);
  check(`${way}: one that was revoked before it was shown`, await statuses(`/${way}/1`, never, 401));
  await revoke(at, long);
  check(`${way}: one that was revoked is believed for the time of the cache`, await statuses(`/${way}/1`, long, 200));
  await sleep(Math.max(0, drawnAt + 3100 - Date.now()));
  check(`${way}: a token that has expired, before the time of the cache`, (await statuses(`/${way}/1`, brief, 401)) && Date.now() < seen + CACHE);
  await until(`${way}: and no longer`, seen + CACHE + 1000 - Date.now(), () => statuses(`/${way}/1`, long, 401));
}

async function many(at, way) {
  const token = await drawn(at, "shop", "read");
  const before = asked(INTROSPECTION);
  const answers = await Promise.all(Array.from({ length: 40 }, () => ask(`/${way}/1`, token)));
  check("forty at once", answers.every((one) => one.status === 200), answers.map((one) => one.status).join());
  check("ask once", asked(INTROSPECTION) === before + 1, `${asked(INTROSPECTION) - before}`);
}

// What a service is shown by Weft itself.
async function fetched(at, way, id = "weft: & co") {
  const before = asked("/token");
  const first = await ask(`/own-${way}/1`, undefined, { authorization: "Bearer mine" });
  const [scheme, value] = (first.is.authorization ?? "").split(" ");
  const token = await at.provider.ClientCredentials.find(value);
  check(`${way}: the service is shown a token of the provider`, first.status === 200 && scheme === "Bearer" && token !== undefined, first);
  check(`${way}: of Weft, with its scopes, for the service`, token?.clientId === id && token?.scope === "read write" && token?.aud === ORDERS, token);
  const again = await ask(`/own-${way}/2`);
  check(`${way}: again the same`, again.is.authorization === first.is.authorization && asked("/token") === before + 1, again);
  const there = await ask(`/own-${way}/1`, undefined, { authorization: "Bearer mine" });
  check(`${way}: whatever the client shows`, there.is.authorization === first.is.authorization, there);
  isPicky = true;
  check(`${way}: a service that does not take it`, (await ask(`/own-${way}/picky`)).status === 401);
  isPicky = false;
  const other = await ask(`/own-${way}/3`);
  check(`${way}: is shown another then`, other.status === 200 && other.is.authorization !== first.is.authorization, other);
}

async function exchanged(at, way, id = "weft: & co") {
  const [ada] = await person(at);
  const first = await ask(`/exchanged-${way}/1`, ada);
  const value = (first.is.authorization ?? "").split(" ")[1];
  const token = await at.provider.AccessToken.find(value ?? "");
  check(`${way}: a token in exchange`, first.status === 200 && value !== ada && token !== undefined, first);
  check(`${way}: of the same person, for the service`, token?.accountId === "ada" && token?.aud === "urn:billing" && token?.clientId === id, token);
  const again = await ask(`/exchanged-${way}/1`, ada);
  check(`${way}: once for each`, again.is.authorization === first.is.authorization, again);
  const [bob] = await person(at);
  const other = await ask(`/exchanged-${way}/1`, bob);
  check(`${way}: and not for another`, other.status === 200 && other.is.authorization !== first.is.authorization, other);
  const refused = await ask(`/exchanged-${way}/1`, "x".repeat(43));
  check(`${way}: nothing for what is no token`, refused.status === 401 && refused.problem === "unauthenticated", refused);
  check(`${way}: nor for none`, (await ask(`/exchanged-${way}/1`)).status === 401);
}

// The provider takes Weft for nobody.
async function stranger(at) {
  const token = await drawn(at, "shop", "read");
  const closed = await ask("/stranger/1", token);
  check("a secret that is wrong", closed.status === 503 && closed.problem === "issuer_unavailable", closed);
  const own = await ask("/own-stranger/1");
  check("is given no token either", own.status === 503 && own.problem === "issuer_unavailable", own);
  const forged = await ask("/own-key-stranger/1");
  check("nor is one that signs by the key of another", forged.status === 503 && forged.problem === "issuer_unavailable", forged);
}

// The provider is away, or wrong, or slow: what is known counts, and nothing else is let through.
async function away(at, way) {
  const stop = () => {
    at.server.close();
    at.server.closeAllConnections();
  };
  for (const [what, make, end] of [
    ["fails", () => { trouble = 500; }, () => { trouble = null; }],
    ["says what is no answer", () => { trouble = 200; }, () => { trouble = null; }],
    ["says nothing", () => { trouble = "hang"; }, () => { trouble = null; at.server.closeAllConnections(); }],
    ["is away", stop, () => at.server.listen(port(at.place), "127.0.0.1")],
  ]) {
    const [known, fresh] = [await drawn(at, "shop", "read"), await drawn(at, "shop", "read")];
    await until(`a new token before the provider ${what}`, 12000, () => statuses(`/${way}/1`, known, 200));
    make();
    const [began, before] = [Date.now(), asked(INTROSPECTION)];
    const [kept, closed] = await Promise.all([ask(`/${way}/1`, known), ask(`/${way}/1`, fresh)]);
    check(`the provider ${what}: what is known counts`, kept.status === 200, kept);
    check(`the provider ${what}: nothing else does`, closed.status === 503 && closed.problem === "issuer_unavailable", closed);
    check(`the provider ${what}: told in time`, Date.now() - began < 6500, `${Date.now() - began} ms`);
    check(`the provider ${what}: once it was asked`, what === "is away" || asked(INTROSPECTION) > before);
    end();
  }
  const fresh = await drawn(at, "shop", "read");
  await until("a new token once the provider is back", 12000, () => statuses(`/${way}/1`, fresh, 200));
}

async function main() {
  const [basic, form] = places.map((place, at) => serve(place, METHODS[at]));
  const ways = [[basic, "basic"], [form, "post"]];
  const parts = ways.flatMap(([at, way]) => [
    () => kinds(at, way),
    () => fetched(at, way),
    () => exchanged(at, way),
  ]);
  parts.push(...Object.keys(SIGNING).flatMap((name) => [
    () => fetched(basic, `key-${name}`, `key-${name}`),
    () => exchanged(basic, `key-${name}`, `key-${name}`),
  ]));
  for (const part of parts) await part();
  await Promise.all(ways.map(([at, way]) => ends(at, way)));
  await many(basic, "basic");
  await stranger(basic);
  const shown = (place) => told.filter((one) => one.place === place && one.path === INTROSPECTION).map((one) => one.basic);
  check("one is shown Authorization", shown(basic.place).every(Boolean) && shown(basic.place).length > 5);
  check("and the other is not", shown(form.place).every((one) => !one) && shown(form.place).length > 5);
  await away(form, "post");
}

main()
  .then(() => {
    console.log(`PASSED ${passed}/${count}`);
    process.exit(passed === count && count > 140 ? 0 : 1);
  })
  .catch((error) => {
    console.log(error);
    process.exit(1);
  });

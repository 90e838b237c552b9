// Logins of a browser with oidc-provider of npm, by Chromium, and the attacks that a script can try on the way.
//
// usage: login.cjs WEB SAFE SERVICE PROVIDER, each HOST:PORT: Weft in the clear and by TLS; where this is the service
// and the provider. The last line is `PASSED n/m`.
"use strict";

const http = require("node:http");
const { chromium } = require("playwright-core");
const { Provider } = require("oidc-provider");

const [web, safe, service, at] = process.argv.slice(2);
const sites = [`http://${web}`, `https://${safe}`];
const port = (place) => Number(place.split(":")[1]);
let passed = 0;
let count = 0;
let refreshes = 0;

function check(what, good, seen = "") {
  count += 1;
  if (good) passed += 1;
  else console.log("FAILED", what, seen);
}

function serve() {
  http
    .createServer((request, response) => {
      response.setHeader("content-type", "text/html");
      response.end(`<!doctype html><title>page</title><pre>${JSON.stringify({ url: request.url, ...request.headers })}</pre>`);
    })
    .listen(port(service), "127.0.0.1");
  const provider = new Provider(`http://${at}`, {
    clients: [
      {
        client_id: "shop",
        client_secret: "a secret that both know",
        grant_types: ["authorization_code", "refresh_token"],
        redirect_uris: sites.map((site) => `${site}/oauth2/callback`),
        post_logout_redirect_uris: sites.map((site) => `${site}/bye`),
        backchannel_logout_uri: `http://${web}/oauth2/ended`,
        backchannel_logout_session_required: true,
      },
    ],
    cookies: { keys: ["a key of the provider's cookies"] },
    features: { backchannelLogout: { enabled: true }, devInteractions: { enabled: true } },
    pkce: { required: () => true },
    // It is on this machine alone, where it would ask nobody.
    fetch: (url, options) => globalThis.fetch(url, { ...options, dispatcher: undefined }),
    issueRefreshToken: async () => true,
    rotateRefreshToken: true,
    ttl: { AccessToken: 5, IdToken: 3600, RefreshToken: 3600, Session: 3600, Grant: 3600, Interaction: 600 },
  });
  provider.on("grant.success", (ctx) => {
    if (ctx.oidc.params.grant_type === "refresh_token") refreshes += 1;
  });
  provider.on("backchannel.error", (_ctx, error) => console.log("provider: back-channel:", error.message, error.cause ?? ""));
  provider.on("server_error", (_ctx, error) => console.log("provider:", error.message));
  provider.listen(port(at), "127.0.0.1");
}

// A request as a script sends it: what `fetch` adds says of itself that it is no browser's.
function ask(url, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = http.get(url, { headers: { accept: "text/html", ...headers }, agent: false }, (answer) => {
      answer.resume();
      const { location = "", "set-cookie": cookies = [] } = answer.headers;
      resolve({ status: answer.statusCode, location, cookies: cookies.map((line) => line.split(";")[0]).join("; ") });
    });
    request.on("error", reject);
  });
}

// Weft fetches what it has to know of the provider again by itself.
async function ready() {
  for (let round = 0; round < 60; round += 1) {
    const answer = await ask(`http://${web}/`);
    if (answer.status === 303) return;
    await new Promise((resolve) => setTimeout(resolve, 500));
  }
  throw new Error("Weft does not know the provider");
}

// At the provider: the pages for development ask for a name, and then for consent.
async function enter(page, name) {
  await page.fill("input[name=login]", name);
  await page.fill("input[name=password]", "any");
  await page.click("button[type=submit]");
  await page.click("button[type=submit]");
}

async function told(page) {
  const text = await page.textContent("pre", { timeout: 5000 }).catch(async () => JSON.stringify({ page: await page.content() }));
  return JSON.parse(text);
}

function names(cookies) {
  return cookies.filter((cookie) => cookie.name.includes("weft")).map((cookie) => cookie.name).sort();
}

async function visit(browser, site) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  const page = await context.newPage();
  await page.goto(`${site}/orders?page=2`);
  check(`${site}: sent to the provider`, page.url().startsWith(`http://${at}/interaction/`), page.url());
  await enter(page, "ada");
  check(`${site}: back at the page`, page.url() === `${site}/orders?page=2`, page.url());
  let seen = await told(page);
  check(`${site}: the service is told`, seen["x-user"] === "ada" && Boolean(seen["x-access-token"]), JSON.stringify(seen));
  check(`${site}: and is shown no cookie of Weft`, !(seen.cookie ?? "").includes("weft"), JSON.stringify(seen));
  const prefix = site.startsWith("https") ? "__Host-" : "";
  const cookies = await context.cookies(site);
  check(`${site}: one session and no login under way`, JSON.stringify(names(cookies)) === JSON.stringify([`${prefix}weft-shop`]), names(cookies).join());
  const own = cookies.find((cookie) => cookie.name === `${prefix}weft-shop`);
  check(`${site}: kept from scripts and other sites`, own?.httpOnly && own?.sameSite === "Lax" && own?.secure === Boolean(prefix), JSON.stringify(own));
  check(`${site}: no script reads it`, !(await page.evaluate(() => document.cookie)).includes("weft"));
  const status = await page.evaluate(async () => (await fetch("/api")).status);
  check(`${site}: a script is let in by the session`, status === 200, status);

  // The access token ends after five seconds; many requests then need one refresh.
  const first = seen["x-access-token"];
  const before = refreshes;
  await page.waitForTimeout(5500);
  const statuses = await page.evaluate(() => Promise.all(Array.from({ length: 20 }, async (_, at) => (await fetch(`/api?${at}`)).status)));
  check(`${site}: many at once after the access token`, statuses.every((one) => one === 200), statuses.join());
  check(`${site}: one refresh for all`, refreshes === before + 1, `${refreshes - before}`);
  await page.goto(`${site}/orders`);
  seen = await told(page);
  check(`${site}: another access token`, seen["x-access-token"] && seen["x-access-token"] !== first, JSON.stringify(seen));

  const copied = (await context.cookies(site)).map((cookie) => `${cookie.name}=${cookie.value}`).join("; ");
  await page.goto(`${site}/oauth2/logout`);
  await page.click("button[value=yes]");
  await page.waitForURL(`${site}/bye`, { timeout: 5000 }).catch(() => {});
  const after = names(await context.cookies(site));
  check(`${site}: logged out here and there`, !after.includes(`${prefix}weft-shop`), after.join());
  check(`${site}: the way leads to the login again`, page.url().startsWith(`http://${at}/interaction/`), page.url());
  const answer = await context.request.get(`${site}/api`, { headers: { cookie: copied } });
  check(`${site}: a copy of the cookies is no use`, answer.status() === 401, answer.status());
  await context.close();
}

// The provider ends a session: its own page of logout, not Weft's.
async function ended(browser) {
  const site = sites[0];
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(`${site}/orders`);
  await enter(page, "bob");
  check("bob is in", (await told(page))["x-user"] === "bob");
  await page.goto(`http://${at}/session/end`);
  await page.click("button[value=yes]");
  await page.waitForTimeout(500);
  await page.goto(`${site}/orders`);
  check("the provider has ended the session", page.url().startsWith(`http://${at}/interaction/`), page.url());
  await context.close();
}

// Logs in without a page, up to the way back from the provider, which nobody goes.
async function held(context, site) {
  const headers = { accept: "text/html" };
  let url = `${site}/orders`;
  for (let step = 0; step < 12 && !url.includes("/oauth2/callback"); step += 1) {
    let answer = await context.request.get(url, { headers, maxRedirects: 0 });
    if (answer.status() === 200) {
      const text = await answer.text();
      const [, action] = /action="([^"]+)"/.exec(text);
      const [, prompt] = /name="prompt" value="(\w+)"/.exec(text);
      const form = { prompt, login: "eve", password: "any" };
      answer = await context.request.post(action, { form, maxRedirects: 0 });
    }
    url = new URL(answer.headers().location, url).href;
  }
  return url;
}

// What a script tries with what it has seen of another's login.
async function attacks(browser) {
  const site = sites[0];
  const context = await browser.newContext();
  const callback = await held(context, site);
  check("the callback was held up", callback.includes("code="), callback);
  const cookies = async () => (await context.cookies(site)).map((cookie) => `${cookie.name}=${cookie.value}`).join("; ");

  check("a code is no use in another browser", (await ask(callback)).status === 400);
  const other = await ask(`${site}/orders`);
  const foreign = other.cookies;
  check("nor with a login of its own", (await ask(callback, { cookie: foreign })).status === 400);
  const state = new URL(other.location).searchParams.get("state");
  const swapped = callback.replace(/state=[^&]*/, `state=${state}`);
  const refused = await ask(swapped, { cookie: foreign });
  check("nor in place of the code of a login of its own", refused.status === 400, refused.status);
  const mixed = await ask(callback.replace(/iss=[^&]*/, "iss=https%3A%2F%2Fevil.example"), { cookie: await cookies() });
  check("an answer of another issuer", mixed.status === 400, mixed.status);
  const own = await cookies();
  const taken = await ask(callback, { cookie: own });
  check("in its own browser it counts", taken.status === 303 && taken.location === "/orders", taken.status);
  const again = await ask(callback, { cookie: own });
  check("and a copy of that browser brings the code in vain", again.status === 400, again.status);

  for (const to of ["//evil.example/", "/%5Cevil.example/", "https://evil.example/", "/%0d%0aset-cookie:a=b", "/%09/evil.example"]) {
    const begun = await ask(`${site}/oauth2/login?return_to=${to}`);
    check(`a login that is to lead to ${to}`, begun.status === 303 && begun.location.startsWith(`http://${at}/`), begun.status);
  }
  const forged = await ask(`${site}/api`, { cookie: "weft-shop=1.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", accept: "*/*" });
  check("a session that was made up", forged.status === 401, forged.status);
  const large = await ask(`${site}/api`, { cookie: Array.from({ length: 6 }, (_, at) => `weft-shop${at ? `-${at}` : ""}=${at ? "" : "6."}${"A".repeat(3500)}`).join("; "), accept: "*/*" });
  check("a large one that was made up", [401, 431].includes(large.status), large.status);
  const post = await fetch(`${site}/oauth2/ended`, { method: "POST", body: new URLSearchParams({ logout_token: "a.b.c" }) });
  check("an end of sessions that was made up", post.status === 400, post.status);
  await context.close();
}

async function main() {
  serve();
  await ready();
  const browser = await chromium.launch({
    executablePath: "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
      "--disable-component-update", "--disable-sync"],
  });
  for (const site of sites) await visit(browser, site);
  await ended(browser);
  await attacks(browser);
  await browser.close();
}

main()
  .then(() => {
    console.log(`PASSED ${passed}/${count}`);
    process.exit(passed === count && count > 40 ? 0 : 1);
  })
  .catch((error) => {
    console.log(error);
    process.exit(1);
  });

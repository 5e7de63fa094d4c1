// The frame: routes, the time range, error messages, and the keyboard.

import { ask } from "/assets/api.js";
import { redrawAll } from "/assets/charts.js";
import { h, fill, state } from "/assets/dom.js";
import { age, isUtc, setUtc, zone } from "/assets/format.js";
import { departmentPage } from "/assets/department.js";
import { logsPage } from "/assets/logs.js";
import { overviewPage } from "/assets/overview.js";
import { replicaPage, taskPage } from "/assets/task.js";
import { tracePage } from "/assets/trace.js";

const RANGES = { "5m": 300, "15m": 900, "1h": 3600, "6h": 21600, "24h": 86400 };
const SECONDS_UP_TO = 1200;
const STALE_SECONDS = 20;
const AGAIN_MS = 4000;

const top = document.querySelector("#top");
const banner = document.querySelector("#banner");
const main = document.querySelector("#main");
const foot = document.querySelector("#foot");
const fresh = h("span", { class: "fresh", title: "age of the newest second with a row" });
let shown = null;
let turn = null;
let newest = null;

const parameters = () => new URLSearchParams(location.search);

// The frame's interface for a page.
const frame = {
  // Seconds since the epoch; live: it moves on with the newest second.
  range() {
    const query = parameters();
    const from = Number(query.get("from")), to = Number(query.get("to"));
    if (from > 0 && to > from) return { from, to, live: false };
    const length = RANGES[query.get("last")] ?? RANGES["15m"];
    const end = newest ?? Date.now() / 1000;
    return { from: end - length, to: end, live: true, length };
  },
  // The same in the server's parameters.
  times() {
    const { from, to } = this.range();
    return { since: Math.round(from * 1000), until: Math.round(to * 1000) };
  },
  // Seconds are refreshed often, minutes and a chosen time range seldom.
  everyMs() {
    const { live, length } = this.range();
    return live && length <= SECONDS_UP_TO ? 2000 : 10000;
  },
  setRange(from, to) { this.change({ from: from.toFixed(0), to: Math.max(to, from + 5).toFixed(0), last: null }); },
  // Changes the address' query and refreshes the page.
  change(values, { quiet = false } = {}) {
    const query = parameters();
    for (const [name, value] of Object.entries(values)) {
      if (value === null || value === undefined || value === "") query.delete(name);
      else query.set(name, value);
    }
    const text = query.toString();
    history[quiet ? "replaceState" : "pushState"](null, "", location.pathname + (text ? `?${text}` : ""));
    if (!quiet) { drawTop(); again(); }
  },
  query: (name) => parameters().get(name),
  // Remembers a table's search, sort and page in the address.
  memory: {
    get: (name) => parameters().get(name),
    set: (values) => frame.change(values, { quiet: true }),
  },
  // A link that keeps the time range.
  link(path, more = {}) {
    const query = new URLSearchParams();
    for (const name of ["last", "from", "to"]) if (parameters().get(name)) query.set(name, parameters().get(name));
    for (const [name, value] of Object.entries(more)) query.set(name, value);
    const text = query.toString();
    return path + (text ? `?${text}` : "");
  },
  newest(second) { newest = second ?? newest; drawFresh(); },
  go(path) { history.pushState(null, "", path); open(); },
};

const ROUTES = [
  [/^\/$/, overviewPage],
  [/^\/d\/([^/]+)$/, departmentPage],
  [/^\/d\/([^/]+)\/t\/([^/]+)$/, taskPage],
  [/^\/d\/([^/]+)\/t\/([^/]+)\/r\/([^/]+)$/, replicaPage],
  [/^\/logs$/, logsPage],
  [/^\/trace(?:\/(.+))?$/, tracePage],
];

function open() {
  shown?.dispose?.();
  fill(banner);
  for (const [pattern, page] of ROUTES) {
    const found = pattern.exec(location.pathname);
    if (found) {
      shown = page(frame, ...found.slice(1).map((part) => part === undefined ? undefined : decodeURIComponent(part)));
      break;
    }
    shown = null;
  }
  shown ??= { title: "Not found", element: state("This page doesn't exist", h("a", { href: "/" }, "Go to the overview")) };
  document.title = `${shown.title} · tidegate`;
  fill(main, shown.element);
  scrollTo(0, 0);
  drawTop();
  again();
}

// Refreshes the page now, and then at the page's interval.
async function again() {
  turn?.abort();
  const mine = (turn = new AbortController());
  const page = shown;
  while (page.refresh && !mine.signal.aborted && page === shown) {
    let wait = page.everyMs?.() ?? 2000;
    try {
      await page.refresh(mine.signal);
      if (mine.signal.aborted) return;
      fill(banner, stale());
    } catch (error) {
      if (mine.signal.aborted || error.name === "AbortError") return;
      if (page !== shown) return;
      if (page.element.dataset.loading) fill(page.element, state("This page can't be loaded", error.message));
      fill(banner, h("span", { class: "bad" }, "⚠"), h("span", {}, error.message), h("button", { type: "button", onclick: again }, "Try again"));
      if (!(error.name === "Error" || error.constructor.name === "Unavailable")) console.error(error);
      wait = AGAIN_MS;
    }
    if (wait === null) return;
    await new Promise((done) => { setTimeout(done, wait); });
    while (document.hidden && !mine.signal.aborted) await new Promise((done) => { setTimeout(done, 500); });
  }
}

function drawTop() {
  const query = parameters();
  const fixed = query.get("from") && query.get("to");
  const last = query.get("last") ?? "15m";
  const here = (path) => (location.pathname === path || (path !== "/" && location.pathname.startsWith(path)) ? "page" : null);
  fill(top,
    h("a", { class: "brand", href: frame.link("/") }, h("img", { src: "/assets/icon.svg", alt: "" }), "tidegate"),
    h("nav", { "aria-label": "pages" },
      h("a", { href: frame.link("/"), "aria-current": here("/") }, "Overview"),
      h("a", { href: frame.link("/logs"), "aria-current": here("/logs") }, "Logs"),
      h("a", { href: "/trace", "aria-current": here("/trace") }, "Request")),
    h("div", { class: "right" },
      fresh,
      shown?.timed && h("span", { class: "group", role: "group", "aria-label": "time" }, Object.keys(RANGES).map((name) => h("button", { type: "button", "aria-pressed": String(!fixed && name === last), onclick: () => frame.change({ last: name === "15m" ? null : name, from: null, to: null }) }, name))),
      shown?.timed && fixed && h("button", { type: "button", "aria-pressed": "true", title: "back to live", onclick: () => frame.change({ from: null, to: null }) }, "chosen range ✕"),
      h("button", { type: "button", title: "time zone (z)", onclick: turnZone }, isUtc() ? "UTC" : "local"),
      h("button", { type: "button", title: "dark or light (d)", "aria-label": "dark or light", onclick: turnTheme }, "◐"),
      h("button", { type: "button", title: "keys (?)", "aria-label": "keys", onclick: help }, "?")));
  drawFresh();
}

// A warning if the rows are stale; none on pages without rows.
function stale() {
  const seconds = newest === null ? 0 : Date.now() / 1000 - newest;
  if (seconds <= STALE_SECONDS || !shown.rows) return null;
  return [h("span", { class: "warn" }, "⚠"), h("span", {}, `The newest second is ${age(seconds)} old. Check that there are requests, and that tidegate ship, the job service-metrics and tidegate index are running.`)];
}

function drawFresh() {
  if (newest === null) { fill(fresh); return; }
  const seconds = Date.now() / 1000 - newest;
  fill(fresh, `newest ${age(seconds)} old`);
  fresh.classList.toggle("old", seconds > STALE_SECONDS);
}

function turnTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  localStorage.setItem("tidegate-theme", next);
  redrawAll();
}

function turnZone() {
  setUtc(!isUtc());
  drawTop();
  drawFoot();
  redrawAll();
  again();
}

const KEYS = [["/", "search"], ["j k", "next and previous row"], ["Enter", "open the row"], ["n p", "next and previous page"], ["u", "up, such as from a replica to its task"], ["g o", "overview"], ["g l", "logs"], ["g r", "request by its id"], ["[ ]", "shorter or longer time range"], ["d", "dark or light"], ["z", "local time or UTC"], ["?", "this list"]];

function help() {
  const dialog = h("dialog", { "aria-label": "keys" }, h("h2", {}, "Keys"), h("table", {}, h("tbody", {}, KEYS.map(([keys, what]) => h("tr", {}, h("td", {}, keys.split(" ").map((key) => [h("kbd", {}, key), " "])), h("td", {}, what))))), h("p", { class: "quiet" }, "Drag over a chart to choose a time range."), h("form", { method: "dialog" }, h("button", { autofocus: true }, "Close")));
  document.body.append(dialog);
  dialog.addEventListener("close", () => dialog.remove());
  dialog.showModal();
}

let before = null;
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const writing = event.target.closest("input, select, textarea");
  if (writing) {
    if (event.key === "Escape") writing.blur();
    return;
  }
  if (document.querySelector("dialog[open]")) return;
  const table = shown?.table;
  const steps = { o: "/", l: "/logs", r: "/trace" };
  if (before === "g" && steps[event.key]) { before = null; frame.go(steps[event.key] === "/trace" ? "/trace" : frame.link(steps[event.key])); return; }
  before = event.key;
  const names = Object.keys(RANGES);
  const at = names.indexOf(parameters().get("last") ?? "15m");
  const step = (by) => shown?.timed && names[at + by] && frame.change({ last: names[at + by] === "15m" ? null : names[at + by], from: null, to: null });
  const actions = {
    "/": () => document.querySelector("input[type=search]")?.focus(),
    j: () => table?.choose(1), k: () => table?.choose(-1), n: () => !table?.pages.lastChild?.disabled && table?.pages.lastChild?.click(), p: () => table?.pages.firstChild?.click(),
    u: () => shown?.up && frame.go(shown.up), d: turnTheme, z: turnZone, "?": help, "[": () => step(-1), "]": () => step(1),
  };
  if (!actions[event.key]) return;
  event.preventDefault();
  actions[event.key]();
});

// Links within the page don't reload it.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || link.target || link.origin !== location.origin || link.getAttribute("href").startsWith("#")) return;
  event.preventDefault();
  frame.go(link.pathname + link.search);
});
addEventListener("popstate", open);
setInterval(drawFresh, 1000);

let about = null;
function drawFoot() {
  if (about) fill(foot, `Rows from ${about.source} at ${about.address}`, about.reach && `: ${about.reach}`, ` · times in ${zone()}`, about.logs ? "" : " · no logs, since Elasticsearch doesn't answer");
}
ask("about").then((answer) => { about = answer; drawFoot(); }).catch(() => {});
open();

// Search in the gateway's lines and the services' records.

import { ask } from "/assets/api.js";
import { card, fill, h, state } from "/assets/dom.js";
import { clock, number } from "/assets/format.js";
import { taskLink } from "/assets/overview.js";
import { replicaOf, traceLink } from "/assets/task.js";

const FIELDS = ["department", "task", "kind", "status", "slower_than_ms", "severity", "contains"];

export function logsPage(frame) {
  const input = (name, label, attributes = {}, kind = null) => h("label", { class: kind }, label, h("input", { name, value: frame.query(name) ?? "", autocomplete: "off", spellcheck: "false", ...attributes }));
  const choice = (name, label, options) => h("label", {}, label, h("select", { name }, options.map(([value, text]) => h("option", { value, selected: (frame.query(name) ?? "") === value }, text))));
  const form = h("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); send(); }, onchange: send },
    input("contains", "text", { type: "search", placeholder: "anywhere in the line" }),
    input("department", "department"), input("task", "task"),
    choice("kind", "source", [["", "gateway and services"], ["access", "gateway"], ["service", "services"]]),
    input("status", "status", { placeholder: "5xx, 503, aborted, grpc:14", title: "5xx or 4xx, a status such as 503, ok, aborted, rate_limited, or a gRPC status such as grpc:14" }, "short"),
    input("slower_than_ms", "slower than, ms", { inputmode: "numeric", pattern: "[0-9.]*" }, "short"),
    choice("severity", "severity", [["", "any"], ["DEBUG", "debug or higher"], ["INFO", "info or higher"], ["WARN", "warn or higher"], ["ERROR", "error or higher"], ["FATAL", "fatal"]]),
    h("button", {}, "Search"),
    h("button", { type: "button", onclick: () => { form.querySelectorAll("input, select").forEach((one) => { one.value = ""; }); send(); } }, "Clear"));
  const count = h("span", { class: "quiet", role: "status" });
  const live = h("input", { type: "checkbox", onchange: () => frame.change({ follow: live.checked ? "yes" : null }) });
  live.checked = frame.query("follow") === "yes";
  const list = h("div", {}, state("Searching …"));
  const element = h("div", {}, h("h1", {}, "Logs"), h("section", { class: "card" }, form),
    card("Lines", { right: [h("label", {}, live, " follow"), count], note: "newest first" }, list));
  function send() {
    if (!form.reportValidity()) return;
    const values = Object.fromEntries(new FormData(form));
    frame.change(Object.fromEntries(FIELDS.map((name) => [name, String(values[name] ?? "").trim() || null])));
  }
  return {
    title: "Logs", element, timed: true,
    everyMs: () => (live.checked && frame.range().live ? 2000 : null),
    async refresh(signal) {
      const chosen = frame.range();
      // Live: up to now, not to the newest second with a row.
      const until = chosen.live ? Date.now() : chosen.to * 1000;
      const since = chosen.live ? until - chosen.length * 1000 : chosen.from * 1000;
      const values = Object.fromEntries(FIELDS.map((name) => [name, frame.query(name)]));
      let found;
      try {
        found = await ask("logs", { ...values, since: Math.round(since), until: Math.round(until) }, signal);
      } catch (error) {
        if (error.name !== "AbortError") { fill(list, state("The logs can't be searched", error.message)); fill(count); }
        throw error;
      }
      fill(count, `${found.lines.length}${found.more ? ", and older ones" : ""}`);
      fill(list, found.lines.length ? lineTable(frame, [...found.lines].reverse()) : state("No line matches", "Try a longer time range or fewer filters. tidegate ship and tidegate index must be running."));
    },
  };
}

export function lineTable(frame, lines) {
  return h("div", { class: "scroll" }, h("table", { "aria-label": "lines" },
    h("thead", {}, h("tr", {}, ["time", "", "task", "line", "request"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, lines.map((line) => h("tr", {}, line.kind === "access" ? gatewayCells(frame, line) : serviceCells(frame, line))))));
}

function common(frame, line, label, kind, text) {
  const fields = line.fields;
  return [
    h("td", {}, clock(line.at, { day: true, milliseconds: true })),
    h("td", {}, h("span", { class: `tag ${kind}` }, label)),
    h("td", {}, fields.department && fields.task ? h("a", { href: taskLink(frame, fields.department, fields.task) }, `${fields.department}/${fields.task}`) : "–"),
    h("td", { class: "wide" }, text),
    h("td", {}, fields.request_id && fields.request_id !== "-" ? h("a", { href: traceLink(fields.request_id), title: fields.request_id }, `${String(fields.request_id).slice(0, 8)}…`) : ""),
  ];
}

const isKnown = (value) => value !== undefined && value !== null && value !== "-" && value !== "";

// The class of a request's tag, by its outcome. Lines of an earlier release have none: by their code.
export function kindOf(fields) {
  const code = Number(fields.response_code);
  const outcome = fields.outcome ?? (code >= 500 ? "errors_5xx" : code === 0 ? "aborted" : code >= 400 ? "errors_4xx" : "ok");
  return { errors_5xx: "bad", aborted: "bad", errors_4xx: "warn", rate_limited: "warn" }[outcome] ?? "good";
}

function gatewayCells(frame, line) {
  const fields = line.fields;
  const code = Number(fields.response_code);
  const status = Number.isNaN(code) ? "–" : String(code);
  const flags = fields.response_flags && fields.response_flags !== "-" ? ` · ${fields.response_flags}` : "";
  return common(frame, line, isKnown(fields.grpc_status) ? `${status} grpc ${fields.grpc_status}` : status, kindOf(fields),
    [h("code", {}, `${fields.method ?? "–"} ${fields.path ?? "–"}`), ` ${number(Number(fields.duration))} ms`, replicaOf(fields) ? ` by ${replicaOf(fields)}` : "", flags]);
}

function serviceCells(frame, line) {
  const fields = line.fields;
  const severity = fields.severity ?? "–";
  const kind = ["ERROR", "FATAL"].includes(severity) ? "bad" : severity === "WARN" ? "warn" : "";
  const text = String(fields.message ?? "");
  const [first, ...rest] = text.split("\n");
  return common(frame, line, severity, kind,
    [h("code", {}, first), rest.length ? h("details", {}, h("summary", { class: "quiet" }, `${rest.length} more lines`), h("pre", {}, text)) : "", h("div", { class: "quiet" }, fields.replica ?? "")]);
}

// One request: the gateway's line, the services' records, the metrics around it.

import { ask } from "/assets/api.js";
import { card, fill, h, state } from "/assets/dom.js";
import { clock, ms, number, whole } from "/assets/format.js";
import { kindOf } from "/assets/logs.js";
import { taskLink } from "/assets/overview.js";
import { replicaLink, replicaOf } from "/assets/task.js";
import { around } from "/assets/timeline.js";

export function tracePage(frame, identifier) {
  const box = h("input", { type: "search", name: "id", placeholder: "x-request-id, trace id or traceparent", "aria-label": "request id or trace id", value: identifier ?? "", size: 60, spellcheck: "false", autocomplete: "off" });
  const form = h("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); if (box.value.trim()) frame.go(`/trace/${encodeURIComponent(box.value.trim())}`); } }, h("label", {}, "request id, trace id or traceparent", box), h("button", {}, "Look up"));
  const found = h("div", {}, identifier ? state("Searching …") : state("Look up one request", "Shows the gateway's line, the services' records with the same request id or trace id, and the metrics around its end."));
  const element = h("div", {}, h("h1", {}, "Request"), h("section", { class: "card" }, form), found);
  return {
    title: "Request", element,
    everyMs: () => null,
    async refresh(signal) {
      if (!identifier) { box.focus(); return; }
      let story;
      try {
        story = await ask(`trace/${encodeURIComponent(identifier)}`, {}, signal);
      } catch (error) {
        if (error.name !== "AbortError") fill(found, state("The request can't be looked up", error.message));
        throw error;
      }
      if (!story.requests.length && !story.records.length) {
        fill(found, state(`${identifier} is not found`, "A line can be found a few seconds after it is written, for as long as its index is kept."));
        return;
      }
      fill(found,
        story.requests.map((request) => requestCard(frame, request, story)),
        card("Records of the services", { note: "with its request id or trace id" }, story.records.length ? recordList(story.records) : h("p", { class: "quiet" }, "No record has its request id or trace id.")),
        story.requests.map((request) => aroundCard(frame, request)));
    },
  };
}

const missing = (value) => value === undefined || value === null || value === "-" || value === "";

function requestCard(frame, request, story) {
  const fields = request.line.fields;
  const task = !missing(fields.department) && !missing(fields.task);
  const replica = replicaOf(fields);
  const fact = (name, ...value) => [h("dt", {}, name), h("dd", {}, ...value)];
  return card("The gateway's line", {},
    h("dl", { class: "facts" },
      fact("answer", h("span", { class: `tag ${kindOf(fields)}` }, String(fields.response_code)), missing(fields.outcome) ? "" : ` ${fields.outcome}`, missing(fields.grpc_status) ? "" : ` · gRPC status ${fields.grpc_status}`, missing(fields.response_code_details) ? "" : ` · ${fields.response_code_details}`, missing(fields.response_flags) ? "" : ` · flags ${fields.response_flags}`),
      fact("request", h("code", {}, `${fields.method ?? "–"} ${fields.authority ?? ""}${fields.path ?? ""}`)),
      fact("time", `${clock(request.line.at, { day: true, milliseconds: true })} to ${clock(request.ended_at, { milliseconds: true })}: ${ms(Number(fields.duration))} ms`, missing(fields.upstream_service_time) ? "" : `, ${ms(Number(fields.upstream_service_time))} ms of them in the replica`, missing(fields.response_duration) ? "" : `, first byte after ${ms(Number(fields.response_duration))} ms`),
      missing(fields.output_tokens) ? "" : fact("tokens", `${whole(Number(fields.output_tokens))} output`, missing(fields.input_tokens) ? "" : `, ${whole(Number(fields.input_tokens))} input`, missing(fields.model) ? "" : `, model ${fields.model}`),
      Number(fields.upstream_request_attempt_count) > 1 ? fact("attempts", whole(Number(fields.upstream_request_attempt_count))) : "",
      fact("task", task ? h("a", { href: around(frame, request.ended_at, taskLink(frame, fields.department, fields.task).split("?")[0]) }, `${fields.department}/${fields.task}`) : "–", missing(fields.version) ? "" : ` version ${fields.version}`),
      fact("replica", replica === null ? "none was reached" : task ? h("a", { href: around(frame, request.ended_at, replicaLink(frame, fields.department, fields.task, replica).split("?")[0]) }, replica) : replica),
      fact("client", `${missing(fields.client) ? "unnamed" : fields.client}${missing(fields.downstream_remote_address) ? "" : `, from ${fields.downstream_remote_address}`}`),
      fact("request id", h("code", {}, fields.request_id ?? "–")),
      story.trace_ids.length ? fact("trace", story.trace_ids.map((id, place) => [place ? ", " : "", story.links[place] ? h("a", { href: story.links[place], target: "_blank", rel: "noreferrer" }, id) : h("code", {}, id)])) : "",
      request.alerts.length ? fact("alerts", request.alerts.map((one) => h("div", {}, h("span", { class: "tag bad" }, one.severity), ` ${one.rule}: ${one.message}`))) : ""));
}

function recordList(records) {
  return h("div", {}, records.map((record) => h("article", {},
    h("div", { class: "quiet" }, clock(record.at, { day: true, milliseconds: true }), " ", h("span", { class: `tag ${["ERROR", "FATAL"].includes(record.fields.severity) ? "bad" : record.fields.severity === "WARN" ? "warn" : ""}` }, record.fields.severity ?? "–"), ` ${record.fields.task ?? ""} ${record.fields.replica ?? ""}`),
    h("pre", {}, record.fields.message ?? ""))));
}

function aroundCard(frame, request) {
  const rows = request.windows;
  if (!rows.length) return card("Metrics around its end", {}, h("p", { class: "quiet" }, "No row of these seconds is stored."));
  const ended = Date.parse(request.ended_at);
  return card("Metrics around its end", {}, h("div", { class: "scroll" }, h("table", { "aria-label": "seconds around" },
    h("thead", {}, h("tr", {}, ["second", "subject", "requests", "p50 ms", "p99 ms", "5xx", "limited"].map((name, place) => h("th", { scope: "col", class: place > 1 ? "number" : null }, name)))),
    h("tbody", {}, rows.map((row) => {
      const its = Date.parse(row.window_start) <= ended && ended < Date.parse(row.window_end);
      return h("tr", { class: its ? "chosen" : null }, h("td", {}, clock(row.window_start), its ? " ← its second" : ""), h("td", {}, row.level === "task" ? "the task" : row.replica),
        [whole(row.requests), number(row.latency_p50_ms), number(row.latency_p99_ms), whole(row.errors_5xx), whole(row.rate_limited)].map((text) => h("td", { class: "number" }, text)));
    })))));
}

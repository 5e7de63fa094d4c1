// Charts that several pages share, on one timeline, and the events on it.

import { Chart } from "/assets/charts.js";
import { h } from "/assets/dom.js";
import { bytes, clock, number, percent, whole } from "/assets/format.js";

const shared = (frame) => ({ onRange: (from, to) => frame.setRange(from, to) });

export const trafficChart = (frame) => new Chart({ ...shared(frame),
  title: "Requests", unit: "per second", format: number,
  lines: [
    { name: "all", column: "qps", color: "--c1", fill: true },
    { name: "5xx", column: "errors_5xx_qps", color: "--bad" },
    { name: "left early", column: "aborted_qps", color: "--c4" },
    { name: "limited", column: "rate_limited_qps", color: "--c5" },
    { name: "4xx", column: "errors_4xx_qps", color: "--c6" },
  ] });

export const latencyChart = (frame) => new Chart({ ...shared(frame),
  title: "Latency", unit: "ms, over all requests of each window", format: number,
  lines: [
    { name: "p50", column: "p50_ms", color: "--c3" },
    { name: "p90", column: "p90_ms", color: "--c1" },
    { name: "p99", column: "p99_ms", color: "--c2" },
    { name: "max", column: "max_ms", color: "--quiet", hidden: true, dash: [3, 3] },
  ] });

export const firstByteChart = (frame) => new Chart({ ...shared(frame),
  title: "First byte", unit: "ms, of a streaming model the time to its first token", format: number,
  lines: [
    { name: "p50", column: "first_byte_p50_ms", color: "--c3" },
    { name: "p90", column: "first_byte_p90_ms", color: "--c1" },
    { name: "p99", column: "first_byte_p99_ms", color: "--c2" },
  ] });

export const tokensChart = (frame) => new Chart({ ...shared(frame),
  title: "Tokens", unit: "per second", format: number,
  lines: [
    { name: "output", column: "output_tokens_per_second", color: "--c1", fill: true },
    { name: "input", column: "input_tokens_per_second", color: "--c6" },
    { name: "output of one stream", column: "stream_tokens_per_second", color: "--c2" },
  ] });

export const inFlightChart = (frame) => new Chart({ ...shared(frame),
  title: "Requests in flight", unit: "on average, of those that ended", format: number,
  lines: [{ name: "in flight", column: "concurrency", color: "--c4", fill: true }] });

// Shows a chart where the rows know any of its values: a log without the optional keys has no first byte and no tokens.
export function updateKnown(charts, timeline) {
  for (const chart of charts) {
    chart.element.hidden = !chart.lines.some((line) => timeline.columns[line.column]?.some((value) => value !== null));
    if (!chart.element.hidden) chart.update(timeline);
  }
}

export const limitChart = (frame) => new Chart({ ...shared(frame),
  title: "Limit", unit: "requests per second", format: number,
  lines: [
    { name: "offered", column: "qps", color: "--c6" },
    { name: "admitted", column: "admitted_qps", color: "--c3", fill: true },
    { name: "limit", column: "limit_qps", color: "--c2", steps: true, width: 2.2 },
  ] });

export const replicasChart = (frame) => new Chart({ ...shared(frame),
  title: "Replicas", format: whole, axis: whole, steps: [1, 2, 5, 10, 20, 50, 100, 200, 500],
  lines: [
    { name: "ready (settled)", column: "replicas_ready", color: "--c3", steps: true, width: 2.2 },
    { name: "reached by requests", column: "replicas_seen", color: "--c1", steps: true },
  ] });

export const processorChart = (frame) => new Chart({ ...shared(frame),
  title: "Processors", unit: "% of the CPU limit or of the GPU", format: percent, axis: percent, most: 1,
  lines: [
    { name: "CPU", column: "cpu_of_limit_ratio", color: "--c1", fill: true },
    { name: "CPU throttled", column: "cpu_throttled_ratio", color: "--bad" },
    { name: "GPU", column: "gpu_utilization_ratio", color: "--c3" },
  ] });

export const memoryChart = (frame) => new Chart({ ...shared(frame),
  title: "Memory", format: bytes, axis: bytes, steps: Array.from({ length: 46 }, (_, power) => 2 ** power),
  lines: [
    { name: "working set", column: "memory_working_set_bytes", color: "--c4", fill: true },
    { name: "limit", column: "memory_limit_bytes", color: "--c2", dash: [6, 4] },
  ] });

const SHOWN = 60;

export function eventList(frame, events, { withTask = false } = {}) {
  if (!events.length) return h("p", { class: "quiet" }, "No replica change, limit or alert in this time range.");
  const newest = [...events].reverse().slice(0, SHOWN);
  const kind = (text) => (text === "alert firing" || text === "limit failed" ? "bad" : text === "limit held" ? "warn" : text === "limit applied" || text === "alert resolved" ? "good" : "");
  return h("div", { class: "scroll" }, h("table", { "aria-label": "what happened" }, h("tbody", {}, newest.map((one) => h("tr", {},
    h("td", {}, h("a", { href: around(frame, one.at), title: "show the minutes around it" }, clock(one.at, { day: true, milliseconds: true }))),
    h("td", {}, h("span", { class: `tag ${kind(one.kind)}` }, one.kind)),
    withTask && h("td", {}, one.task ?? ""),
    h("td", { class: "wide" }, one.text, one.replica ? ` (${one.replica})` : ""))))),
    events.length > SHOWN && h("p", { class: "quiet" }, `the newest ${SHOWN} of ${events.length}`));
}

// The address of the page for the five minutes around a moment.
export function around(frame, at, path = location.pathname) {
  const second = Date.parse(at) / 1000;
  return `${path}?from=${Math.floor(second - 150)}&to=${Math.ceil(second + 150)}`;
}

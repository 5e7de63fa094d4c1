// One task, or one replica of it: requests, latency, limit and replicas on one timeline.

import { ask } from "/assets/api.js";
import { card, fill, h, loading, show, state, tile } from "/assets/dom.js";
import { bytes, ms, number, percent, whole } from "/assets/format.js";
import { departmentLink, rates, taskLink } from "/assets/overview.js";
import { Table } from "/assets/table.js";
import { eventList, firstByteChart, inFlightChart, latencyChart, limitChart, memoryChart, processorChart, replicasChart, tokensChart, trafficChart, updateKnown } from "/assets/timeline.js";

const SLOW = 2;

// The replica of a gateway's line, as rows name it; null where none was reached. Lines of an earlier release have the host only.
export const replicaOf = (fields) => [fields.replica, fields.upstream_host].find((name) => name && name !== "-") ?? null;
export const traceLink = (id) => `/trace/${encodeURIComponent(id)}`;
export const replicaLink = (frame, department, task, replica) => frame.link(`/d/${encodeURIComponent(department)}/t/${encodeURIComponent(task)}/r/${encodeURIComponent(replica)}`);

export function taskPage(frame, department, task) {
  const traffic = [trafficChart(frame), latencyChart(frame), limitChart(frame), replicasChart(frame)];
  const streams = [firstByteChart(frame), tokensChart(frame), inFlightChart(frame)];
  const used = [processorChart(frame), memoryChart(frame)];
  const tiles = h("div", { class: "tiles" });
  const flags = h("div");
  const events = h("div");
  const usedPlace = h("div", { class: "charts" }, used.map((chart) => chart.element));
  let slowest = null;
  const replicas = new Table({
    label: "replicas", sort: "p99 down", search: "Search replica",
    memory: frame.memory,
    key: (row) => row.replica, text: (row) => `${row.replica} ${row.pod ?? ""} ${row.state ?? ""}`,
    empty: () => state("No replica was reached"),
    columns: [
      { name: "replica", label: "replica", value: (row) => row.replica, cell: (row) => [h("a", { href: replicaLink(frame, department, task, row.replica) }, row.replica), row.pod && row.pod !== row.replica ? h("span", { class: "quiet" }, ` ${row.pod} `) : " ", row.replica === slowest && h("span", { class: "tag warn" }, "slow")] },
      { name: "state", label: "state", value: (row) => row.state, cell: (row) => row.state ? h("span", { class: `tag ${row.state === "ready" ? "good" : "warn"}` }, row.state) : h("span", { class: "quiet" }, "unknown") },
      ...rates,
      { name: "max", label: "max ms", number: true, value: (row) => row.max_ms, cell: (row) => number(row.max_ms) },
    ],
  });
  const versions = new Table({
    label: "versions", sort: "version up", key: (row) => row.version ?? "", text: (row) => row.version ?? "",
    empty: () => "",
    columns: [{ name: "version", label: "version", value: (row) => row.version, cell: (row) => row.version ?? "–" }, ...rates],
  });
  const versionsCard = card("Versions", { note: "newest 10 seconds" }, versions.element);
  const flagsCard = card("Envoy's response flags", { note: "newest 10 seconds" }, flags);
  const statuses = h("div");
  const statusesCard = card("gRPC statuses", { note: "newest 10 seconds" }, statuses);
  const element = loading();
  const content = [
    h("div", { class: "crumbs" }, h("a", { href: frame.link("/") }, "Overview"), " / ", h("a", { href: departmentLink(frame, department) }, department)),
    h("h1", {}, task, " ", h("a", { class: "tag", href: frame.link("/logs", { department, task }) }, "logs")), tiles,
    h("div", { class: "charts" }, [...traffic, ...streams].map((chart) => chart.element)), usedPlace,
    card("Replicas", { right: [replicas.input, replicas.count], note: "newest 10 seconds" }, replicas.element),
    versionsCard, flagsCard, statusesCard,
    card("Events", {}, events),
  ];
  return {
    title: task, element, table: replicas, rows: true, timed: true, up: departmentLink(frame, department),
    everyMs: () => frame.everyMs(),
    async refresh(signal) {
      const every = await ask("now/task", { department, task }, signal);
      frame.newest(every.newest);
      const range = frame.range();
      const times = frame.times();
      const [parts, series, happened] = await Promise.all([
        ask("parts", { department, task }, signal), ask("series", { department, task, ...times }, signal), ask("events", { department, task, ...times }, signal)]);
      show(element, content);
      const now = every.rows[0];
      const ready = parts.ready;
      fill(tiles, now ? [
        tile("requests a second", number(now.qps), now.replicas_ready ? `${number(now.qps / now.replicas_ready)} per ready replica` : ""),
        tile("p99 ms", ms(now.p99_ms), [`p50 ${ms(now.p50_ms)}, max ${ms(now.max_ms)}`, now.exemplar && [" ", h("a", { href: traceLink(now.exemplar.request_id), title: `the slowest request that has an id: ${ms(now.exemplar.latency_ms)} ms` }, "slowest")]]),
        ...streamTiles(now),
        tile("errors %", percent(now.error_rate), `${now.errors_5xx} 5xx, ${now.aborted} left early`, now.error_rate >= 0.05 ? "bad" : ""),
        tile("limited %", percent(now.rate_limited_ratio), `${number(now.rate_limited / every.seconds)} a second`),
        tile("ready replicas", whole(ready?.replicas_ready), ready ? `${ready.replicas_starting} starting, ${ready.replicas_terminating} terminating; source ${ready.source}` : "no source"),
        tile("limit, qps", number(now.limit_qps), now.limit_state ?? "no limit", ["held", "failed"].includes(now.limit_state) ? "warn" : ""),
        tile("firing alerts", now.firing, "", now.firing ? "bad" : ""),
      ] : state("This task has no rows now", "Its name may be wrong, or it gets no requests; the charts below may show its past."));
      const columns = { ...series.columns, admitted_qps: series.columns.qps.map((value, place) => value === null ? null : value - series.columns.rate_limited_qps[place]) };
      const timeline = { times: series.times, columns, from: range.from, to: range.to, events: happened };
      traffic.forEach((chart) => chart.update(timeline));
      updateKnown(streams, timeline);
      usedPlace.hidden = !series.resources;
      if (series.resources) used.forEach((chart) => chart.update({ ...series.resources, from: range.from, to: range.to, events: happened }));
      const slow = slowOf(parts.replicas);
      slowest = slow?.replica ?? null;
      replicas.update(parts.replicas);
      versions.update(parts.versions);
      versionsCard.hidden = !parts.versions.length;
      flagsCard.hidden = !Object.keys(now?.flags ?? {}).length;
      meanings ??= await ask("response-flags", {}, signal);
      fill(flags, countList(now?.flags ?? {}, (name) => meanings[name]));
      statusesCard.hidden = !Object.keys(now?.grpc_status ?? {}).length;
      fill(statuses, countList(now?.grpc_status ?? {}, (status) => GRPC_STATUSES[status]));
      fill(events, eventList(frame, happened));
    },
    dispose: () => [...traffic, ...streams, ...used].forEach((chart) => chart.dispose()),
  };
}

export function replicaPage(frame, department, task, replica) {
  const charts = [trafficChart(frame), latencyChart(frame)];
  const streams = [firstByteChart(frame), tokensChart(frame), inFlightChart(frame)];
  const used = [processorChart(frame), memoryChart(frame)];
  const tiles = h("div", { class: "tiles" });
  const usedPlace = h("div", { class: "charts" }, used.map((chart) => chart.element));
  const events = h("div");
  const element = loading();
  const content = [
    h("div", { class: "crumbs" }, h("a", { href: frame.link("/") }, "Overview"), " / ", h("a", { href: departmentLink(frame, department) }, department), " / ", h("a", { href: taskLink(frame, department, task) }, task)),
    h("h1", {}, replica), tiles,
    h("div", { class: "charts" }, [...charts, ...streams].map((chart) => chart.element)), usedPlace,
    card("Events of its task", {}, events),
  ];
  return {
    title: replica, element, rows: true, timed: true, up: taskLink(frame, department, task),
    everyMs: () => frame.everyMs(),
    async refresh(signal) {
      const parts = await ask("parts", { department, task }, signal);
      frame.newest(parts.newest);
      const range = frame.range();
      const times = frame.times();
      const [series, happened] = await Promise.all([
        ask("series", { department, task, replica, ...times }, signal), ask("events", { department, task, ...times }, signal)]);
      show(element, content);
      const now = parts.replicas.find((row) => row.replica === replica);
      const others = parts.replicas.filter((row) => row.replica !== replica && row.p99_ms !== null).map((row) => row.p99_ms).sort((a, b) => a - b);
      fill(tiles, now ? [
        tile("state", now.state ?? "unknown", now.pod && now.pod !== replica ? now.pod : "", now.state && now.state !== "ready" ? "warn" : ""),
        tile("requests a second", number(now.qps)),
        tile("p99 ms", ms(now.p99_ms), others.length ? `median of the others ${ms(others[Math.floor((others.length - 1) / 2)])}` : "no other replica was reached"),
        tile("errors %", percent(now.error_rate), `${now.errors_5xx} 5xx, ${now.aborted} left early`, now.error_rate >= 0.05 ? "bad" : ""),
        ...streamTiles(now),
        tile("out, a second", bytes(now.bytes_sent_per_second), `in ${bytes(now.bytes_received_per_second)}`),
      ] : state("No request reached this replica in the newest 10 seconds", "It may be gone; the charts below may show its past."));
      const timeline = { times: series.times, columns: series.columns, from: range.from, to: range.to, events: happened };
      charts.forEach((chart) => chart.update(timeline));
      updateKnown(streams, timeline);
      usedPlace.hidden = !series.resources;
      if (series.resources) used.forEach((chart) => chart.update({ ...series.resources, from: range.from, to: range.to, events: happened }));
      fill(events, eventList(frame, happened));
    },
    dispose: () => [...charts, ...streams, ...used].forEach((chart) => chart.dispose()),
  };
}

// The slowest replica, if it is at least twice as slow as the median.
function slowOf(rows) {
  const known = rows.filter((row) => row.p99_ms !== null && row.qps >= 0.5).sort((a, b) => b.p99_ms - a.p99_ms);
  if (known.length < 3) return null;
  const median = known[Math.ceil(known.length / 2)].p99_ms;
  return known[0].p99_ms >= SLOW * median ? known[0] : null;
}

// What the optional keys of the log give; nothing where they are absent.
function streamTiles(now) {
  return [
    now.first_byte_p99_ms !== null && tile("first byte, p99 ms", ms(now.first_byte_p99_ms), `p50 ${ms(now.first_byte_p50_ms)}`),
    now.output_tokens_per_second !== null && tile("output tokens a second", number(now.output_tokens_per_second), now.input_tokens_per_second === null ? "" : `${number(now.input_tokens_per_second)} input`),
    now.concurrency !== null && tile("in flight", number(now.concurrency), "on average"),
  ].filter(Boolean);
}

// When Envoy sets a flag, by its name; the same for every task.
let meanings = null;

const GRPC_STATUSES = ["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"];

// Counts by name, the largest first, each with what the name means.
function countList(counts, meaning) {
  const names = Object.keys(counts).sort((a, b) => counts[b] - counts[a]);
  return h("p", {}, names.map((name, place) => [place ? " · " : "", h("code", {}, name), ` ${meaning(name) ?? ""} `, h("b", {}, whole(counts[name]))]));
}

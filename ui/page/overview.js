// All departments, all tasks, the top movers, and the firing alerts.

import { ask } from "/assets/api.js";
import { spark } from "/assets/charts.js";
import { card, fill, h, loading, show, state, tile } from "/assets/dom.js";
import { bytes, change, changeText, clock, ms, number, percent, whole } from "/assets/format.js";
import { Table } from "/assets/table.js";

export const departmentLink = (frame, department) => frame.link(`/d/${encodeURIComponent(department)}`);
export const taskLink = (frame, department, task) => frame.link(`/d/${encodeURIComponent(department)}/t/${encodeURIComponent(task)}`);

const MOVED = 0.5;
const MOVERS = 5;

// The columns that departments, tasks, versions and replicas share.
export const rates = [
  { name: "qps", label: "qps", number: true, title: "requests per second, newest 10 s", value: (row) => row.qps, cell: (row) => number(row.qps) },
  { name: "p50", label: "p50 ms", number: true, value: (row) => row.p50_ms, cell: (row) => number(row.p50_ms) },
  { name: "p99", label: "p99 ms", number: true, value: (row) => row.p99_ms, cell: (row) => number(row.p99_ms) },
  { name: "errors", label: "errors %", number: true, title: "share of requests with 5xx or an early client disconnect", value: (row) => row.error_rate, cell: (row) => h("span", { class: row.error_rate >= 0.05 ? "bad" : row.error_rate >= 0.01 ? "warn" : null }, percent(row.error_rate)) },
  { name: "limited", label: "limited %", number: true, title: "refused by the rate limit", value: (row) => row.rate_limited_ratio, cell: (row) => h("span", { class: row.rate_limited_ratio >= 0.05 ? "warn" : null }, percent(row.rate_limited_ratio)) },
];
const trend = { name: "trend", label: "15 min", title: "requests per second, by minute", cell: (row) => spark(row.trend, `15 minutes of ${row.task ?? row.department}`) };
const moved = { name: "change", label: "vs 5 min", number: true, title: "requests per second, compared with the previous five minutes", value: (row) => change(row.qps, row.usual_qps), cell: (row) => changeText(change(row.qps, row.usual_qps)) };
const alerts = { name: "alerts", label: "alerts", number: true, value: (row) => row.firing, cell: (row) => (row.firing ? h("span", { class: "tag bad" }, row.firing) : "") };

export const nothingYet = () => state("No rows yet", "They appear a few seconds after the first requests, if tidegate ship and the job service-metrics are running, and tidegate index unless Kafka is the source.");

export function taskTable(frame, { withDepartment }) {
  return new Table({
    label: "tasks",
    search: withDepartment ? "Search task or department" : "Search task",
    memory: frame.memory,
    sort: "qps down",
    key: (row) => `${row.department}/${row.task}`,
    text: (row) => `${row.department} ${row.task}`,
    empty: nothingYet,
    columns: [
      { name: "task", label: "task", value: (row) => row.task, cell: (row) => h("a", { href: taskLink(frame, row.department, row.task) }, row.task) },
      ...(withDepartment ? [{ name: "department", label: "department", value: (row) => row.department, cell: (row) => h("a", { href: departmentLink(frame, row.department), class: "quiet" }, row.department) }] : []),
      ...rates,
      { name: "ready", label: "ready", number: true, title: "ready replicas, and starting ones", value: (row) => row.replicas_ready, cell: (row) => [whole(row.replicas_ready), row.replicas_starting ? h("span", { class: "quiet" }, ` +${row.replicas_starting}`) : ""] },
      { name: "limit", label: "limit qps", number: true, title: "the limit in force", value: (row) => row.limit_qps, cell: (row) => [number(row.limit_qps), ["held", "failed"].includes(row.limit_state) ? h("span", { class: "tag warn" }, row.limit_state) : ""] },
      moved, alerts, trend,
    ],
  });
}

export function overviewPage(frame) {
  const tiles = h("div", { class: "tiles" });
  const movers = h("div");
  const firing = h("div");
  const departments = new Table({
    label: "departments",
    sort: "qps down",
    key: (row) => row.department,
    text: (row) => row.department,
    empty: nothingYet,
    columns: [
      { name: "department", label: "department", value: (row) => row.department, cell: (row) => h("a", { href: departmentLink(frame, row.department) }, row.department) },
      { name: "tasks", label: "tasks", number: true, value: (row) => row.tasks, cell: (row) => whole(row.tasks) },
      ...rates,
      { name: "in", label: "in /s", number: true, value: (row) => row.bytes_received_per_second, cell: (row) => bytes(row.bytes_received_per_second) },
      { name: "out", label: "out /s", number: true, value: (row) => row.bytes_sent_per_second, cell: (row) => bytes(row.bytes_sent_per_second) },
      moved, alerts, trend,
    ],
  });
  const tasks = taskTable(frame, { withDepartment: true });
  const element = loading();
  const content = [
    h("h1", {}, "Overview"), tiles,
    card("Firing alerts", { id: "alerts" }, firing),
    card("Departments", { right: [departments.count], note: "newest 10 seconds" }, departments.element),
    card("Top movers", { note: "tasks whose requests per second changed most, compared with the previous five minutes" }, movers),
    card("Tasks", { right: [tasks.input, tasks.count], note: "newest 10 seconds" }, tasks.element),
  ];
  return {
    title: "Overview", element, table: tasks, rows: true,
    async refresh(signal) {
      const [all, every, alert] = await Promise.all([ask("now/department", {}, signal), ask("now/task", {}, signal), ask("alerts", {}, signal)]);
      show(element, content);
      frame.newest(all.newest);
      const sum = (name) => all.rows.reduce((total, row) => total + (row[name] ?? 0), 0);
      const requests = sum("qps") * all.seconds;
      const wrong = sum("errors_5xx") + sum("aborted");
      const slowest = every.rows.filter((row) => row.qps >= 1 && row.p99_ms !== null).sort((a, b) => b.p99_ms - a.p99_ms)[0];
      fill(tiles,
        tile("requests a second", number(sum("qps")), `${whole(routed(all.rows))} departments, ${whole(routed(every.rows))} tasks`),
        tile("errors %", percent(requests ? wrong / requests : null), "5xx and early client disconnects", requests && wrong / requests >= 0.05 ? "bad" : ""),
        tile("limited %", percent(requests ? sum("rate_limited") / requests : null), `${number(sum("rate_limited") / all.seconds)} a second`),
        tile("slowest task, p99 ms", slowest ? ms(slowest.p99_ms) : "–", slowest ? h("a", { href: taskLink(frame, slowest.department, slowest.task) }, slowest.task) : ""),
        tile("firing alerts", alert.length, alert.length ? h("a", { href: "#alerts" }, alert[0].rule) : "none", alert.length ? "bad" : ""));
      departments.update(all.rows);
      tasks.update(every.rows);
      fill(firing, alertList(frame, alert));
      fill(movers, moverList(frame, every.rows));
    },
  };
}

// Unrouted requests have a row, but are not a department.
const routed = (rows) => rows.filter((row) => row.department !== "__unrouted__").length;

function alertList(frame, rows) {
  if (!rows.length) return h("p", { class: "quiet" }, "None.");
  return h("div", { class: "scroll" }, h("table", { "aria-label": "firing alerts" }, h("thead", {}, h("tr", {}, ["since", "severity", "rule", "subject", "message"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.slice(0, 20).map((row) => h("tr", {},
      h("td", {}, clock(row.fired_at ?? row.started_at, { day: true })),
      h("td", {}, h("span", { class: `tag ${row.severity === "info" ? "" : row.severity === "critical" ? "bad" : "warn"}` }, row.severity), row.silenced && h("span", { class: "tag" }, "silenced")),
      h("td", {}, row.runbook_url && /^https?:/.test(row.runbook_url) ? h("a", { href: row.runbook_url, target: "_blank", rel: "noreferrer" }, row.rule) : row.rule),
      h("td", {}, row.task ? h("a", { href: taskLink(frame, row.department, row.task) }, `${row.department}/${row.task}`) : row.department ?? "–", row.replica ? ` ${row.replica}` : ""),
      h("td", { class: "wide" }, row.message))))),
    rows.length > 20 && h("p", { class: "quiet" }, `and ${rows.length - 20} more: tidegate alerts list`));
}

function moverList(frame, rows) {
  const found = rows
    .map((row) => ({ row, change: change(row.qps, row.usual_qps) }))
    .filter((one) => one.change !== null && Math.abs(one.change) >= MOVED && Math.max(one.row.qps, one.row.usual_qps ?? 0) >= 1)
    // By requests, not by ratio: a change from 2 to 8 qps is not important.
    .sort((a, b) => Math.abs(b.row.qps - b.row.usual_qps) - Math.abs(a.row.qps - a.row.usual_qps))
    .slice(0, MOVERS);
  if (!found.length) return h("p", { class: "quiet" }, "No task changed by half or more.");
  return h("p", {}, found.map(({ row, change: by }, place) => [place ? " · " : "", h("a", { href: taskLink(frame, row.department, row.task) }, row.task), ` ${number(row.usual_qps)} → ${number(row.qps)} qps (${changeText(by)})`]));
}

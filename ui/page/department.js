// One department: its seconds, and its tasks.

import { ask } from "/assets/api.js";
import { card, fill, h, loading, show, state, tile } from "/assets/dom.js";
import { ms, number, percent } from "/assets/format.js";
import { taskTable } from "/assets/overview.js";
import { eventList, latencyChart, trafficChart } from "/assets/timeline.js";

export function departmentPage(frame, department) {
  const charts = [trafficChart(frame), latencyChart(frame)];
  const tasks = taskTable(frame, { withDepartment: false });
  const tiles = h("div", { class: "tiles" });
  const events = h("div");
  const element = loading();
  const content = [
    h("div", { class: "crumbs" }, h("a", { href: frame.link("/") }, "Overview")), h("h1", {}, department), tiles,
    h("div", { class: "charts" }, charts.map((chart) => chart.element)),
    card("Tasks", { right: [tasks.input, tasks.count], note: "newest 10 seconds" }, tasks.element),
    card("Events", {}, events),
  ];
  return {
    title: department, element, table: tasks, rows: true, timed: true, up: frame.link("/"),
    everyMs: () => frame.everyMs(),
    async refresh(signal) {
      const every = await ask("now/department", { department }, signal);
      frame.newest(every.newest);
      const range = frame.range();
      const times = frame.times();
      const [its, series, happened] = await Promise.all([
        ask("now/task", { department }, signal), ask("series", { department, ...times }, signal), ask("events", { department, ...times }, signal)]);
      show(element, content);
      const now = every.rows[0];
      fill(tiles, now ? [
        tile("requests a second", number(now.qps), `${now.tasks} tasks`),
        tile("p99 ms", ms(now.p99_ms), `p50 ${ms(now.p50_ms)}`),
        tile("errors %", percent(now.error_rate), `${now.errors_5xx} 5xx, ${now.aborted} left early`, now.error_rate >= 0.05 ? "bad" : ""),
        tile("limited %", percent(now.rate_limited_ratio), `${number(now.rate_limited / every.seconds)} a second`),
        tile("firing alerts", now.firing, "", now.firing ? "bad" : ""),
      ] : state("This department has no rows now", "Its name may be wrong, or it gets no requests."));
      charts.forEach((chart) => chart.update({ ...series, from: range.from, to: range.to, events: happened }));
      tasks.update(its.rows);
      fill(events, eventList(frame, happened, { withTask: true }));
    },
    dispose: () => charts.forEach((chart) => chart.dispose()),
  };
}

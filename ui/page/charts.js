// Lines over time, by uPlot: shared cursor, event markers, drag to choose a time range.

import uPlot from "/assets/uplot/uPlot.esm.js";
import { h, fill } from "/assets/dom.js";
import { clock, isUtc, mark } from "/assets/format.js";

const all = new Set();
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const KINDS = { replicas: "--c3", limit: "--c5", alert: "--bad" };
const HEIGHT = 190;
const NEAR_PIXELS = 6;

// Called after the theme or the time zone changed.
export const redrawAll = () => all.forEach((one) => one.redraw());

export class Chart {
  // lines: [{name, column, color, dash, steps, hidden}]. format: a value's text; axis: on the axis; steps: between its marks. onRange(from, to): seconds that were dragged over.
  constructor({ title, lines, format, axis = mark, steps = null, unit = "", onRange, most = null }) {
    Object.assign(this, { title, lines, format, axis, steps, onRange, most });
    this.events = [];
    this.from = this.to = 0;
    this.shown = lines.map((line) => !line.hidden);
    this.legend = h("div", { class: "legend" });
    this.plotted = h("div", { class: "plot", role: "img" });
    this.empty = h("p", { class: "state" });
    this.element = h("section", { class: "card", "aria-label": title },
      h("div", { class: "head" }, h("h2", {}, title), h("span", { class: "quiet" }, unit)),
      this.plotted, this.legend);
    this.plot = null;
    this.observer = new ResizeObserver(() => this.plot?.setSize({ width: this.width, height: HEIGHT }));
    this.observer.observe(this.plotted);
    all.add(this);
  }

  get width() { return Math.max(240, this.plotted.clientWidth); }

  // times: seconds since the epoch. columns: by name. from, to: what the axis shows. events: [{at, kind, text}].
  update({ times, columns, from, to, events = [] }) {
    this.from = from;
    this.to = to;
    this.events = events.map((one) => ({ ...one, second: Date.parse(one.at) / 1000 }));
    const data = [times, ...this.lines.map((line) => columns[line.column] ?? times.map(() => null))];
    const known = data.slice(1).some((column) => column.some((value) => value !== null));
    if (!known) {
      this.plot?.destroy();
      this.plot = null;
      fill(this.plotted, fill(this.empty, "No data in this time range"));
      fill(this.legend);
      return;
    }
    if (this.plot) this.plot.setData(data, true);
    else this.draw(data);
    if (this.plot.cursor.idx === null || this.plot.cursor.left < 0) this.tell(null);
    this.describe(data);
  }

  draw(data) {
    fill(this.plotted);
    this.plot = new uPlot({
      width: this.width,
      height: HEIGHT,
      tzDate: (seconds) => (isUtc() ? uPlot.tzDate(new Date(seconds * 1000), "UTC") : new Date(seconds * 1000)),
      legend: { show: false },
      cursor: { sync: { key: "time", setSeries: false }, drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
      scales: {
        x: { time: true, range: () => [this.from, this.to] },
        y: { range: (plot, low, high) => [0, Math.max(this.most ?? 0, (high ?? 0) * 1.08 || 1)] },
      },
      axes: [
        { stroke: () => style("--quiet"), grid: { stroke: () => style("--grid"), width: 1 }, ticks: { show: false }, size: 32, space: 84,
          values: [[86400, "{MMM} {D}", null, null, null, null, null, null, 1], [3600, "{HH}:{mm}", null, null, null, null, null, null, 1],
            [60, "{HH}:{mm}", null, null, null, null, null, null, 1], [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1]] },
        { stroke: () => style("--quiet"), grid: { stroke: () => style("--grid"), width: 1 }, ticks: { show: false }, size: 58,
          ...(this.steps ? { incrs: this.steps } : {}), values: (plot, marks) => marks.map((value) => this.axis(value)) },
      ],
      series: [{}, ...this.lines.map((line, place) => ({
        label: line.name,
        show: this.shown[place],
        stroke: () => style(line.color),
        fill: line.fill ? () => `color-mix(in srgb, ${style(line.color)} 14%, transparent)` : undefined,
        width: line.width ?? 1.6,
        dash: line.dash,
        paths: line.steps ? uPlot.paths.stepped({ align: 1 }) : undefined,
        points: { show: (plot, series, from, to) => to - from < 4 },
      }))],
      hooks: {
        draw: [(plot) => this.mark(plot)],
        setCursor: [(plot) => this.tell(plot.cursor.left < 0 ? null : plot.cursor.idx)],
        setSelect: [(plot) => {
          if (plot.select.width < 4) return;
          const from = plot.posToVal(plot.select.left, "x");
          const to = plot.posToVal(plot.select.left + plot.select.width, "x");
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          this.onRange?.(from, to);
        }],
      },
    }, data, this.plotted);
    performance.mark("tidegate-chart");
  }

  mark(plot) {
    const { ctx, bbox } = plot;
    ctx.save();
    for (const one of this.events) {
      if (one.second < this.from || one.second > this.to) continue;
      const x = Math.round(plot.valToPos(one.second, "x", true));
      ctx.strokeStyle = ctx.fillStyle = style(KINDS[one.kind.split(" ")[0]] ?? "--quiet");
      ctx.lineWidth = devicePixelRatio;
      ctx.setLineDash([4 * devicePixelRatio, 3 * devicePixelRatio]);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.moveTo(x - 4 * devicePixelRatio, bbox.top);
      ctx.lineTo(x + 4 * devicePixelRatio, bbox.top);
      ctx.lineTo(x, bbox.top + 6 * devicePixelRatio);
      ctx.fill();
    }
    ctx.restore();
  }

  // The legend: the values under the cursor, else the newest ones; beside them what happened there.
  tell(place) {
    if (!this.plot) return;
    const times = this.plot.data[0];
    const at = place ?? times.length - 1;
    const near = place === null ? null : this.events.find((one) => Math.abs(this.plot.valToPos(one.second, "x") - this.plot.cursor.left) < NEAR_PIXELS);
    const keys = this.lines.map((line, index) => {
      let value = this.plot.data[index + 1][at];
      for (let back = at; place === null && value === null && back > at - 15 && back > 0; back -= 1) value = this.plot.data[index + 1][back - 1];
      const key = h("span", { class: "key" });
      key.style.background = style(line.color);
      return h("button", { type: "button", "aria-pressed": String(this.shown[index]), title: "show or hide", onclick: () => this.toggle(index) },
        key, line.name, h("b", {}, this.format(value)));
    });
    fill(this.legend, keys, place !== null && h("span", {}, clock(times[at] * 1000)), near && h("span", { class: "warn" }, `${near.kind}: ${near.text}`));
  }

  toggle(index) {
    this.shown[index] = !this.shown[index];
    this.plot?.setSeries(index + 1, { show: this.shown[index] });
    this.tell(null);
  }

  describe(data) {
    const last = data[0].length - 1;
    const newest = this.lines.map((line, index) => `${line.name} ${this.format(data[index + 1][last])}`).join(", ");
    this.plotted.setAttribute("aria-label", `${this.title}. Newest: ${newest}. ${this.events.length} events.`);
  }

  redraw() {
    this.plot?.redraw(false, true);
    this.tell(null);
  }

  dispose() {
    all.delete(this);
    this.observer.disconnect();
    this.plot?.destroy();
  }
}

// A line without axes for a table's cell. values: null where nothing is known.
export function spark(values, label) {
  const width = 92, height = 20;
  const most = Math.max(...values.filter((value) => value !== null), 0.001);
  const step = width / Math.max(1, values.length - 1);
  const lines = [[]];
  values.forEach((value, place) => {
    if (value === null) lines.push([]);
    else lines.at(-1).push(`${(place * step).toFixed(1)},${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`);
  });
  return h("svg", { class: "spark", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    lines.filter((points) => points.length).map((points) => h("polyline", { points: points.length === 1 ? `${points[0]} ${points[0]}` : points.join(" "), fill: "none", stroke: "var(--c1)", "stroke-width": 1.5, "stroke-linecap": "round" })));
}

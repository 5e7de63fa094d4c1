// A table with search, sorting and pages in the browser; its link, Enter or a click opens a row.

import { h, fill, state } from "/assets/dom.js";

const PAGE_ROWS = 50;

export class Table {
  // columns: [{name, label, title, number, value(row), cell(row)}]; value sorts, cell shows.
  // key(row): its identity. text(row): what the search looks in. memory: remembers search, sort and page.
  constructor({ label, columns, key, text, sort, memory = null, search = null, empty }) {
    Object.assign(this, { columns, key, text, emptyState: empty });
    this.memory = memory ?? { get: () => null, set: () => {} };
    this.sort = this.memory.get("sort") ?? sort;
    this.page = Number(this.memory.get("page") ?? 0);
    this.chosen = null;
    this.rows = null;
    this.input = search && h("input", { type: "search", placeholder: search, "aria-label": search, value: this.memory.get("q") ?? "", oninput: () => { this.page = 0; this.remember(); this.draw(); } });
    this.head = h("thead");
    this.body = h("tbody");
    this.table = h("table", { "aria-label": label }, this.head, this.body);
    this.count = h("span", { class: "quiet", role: "status" });
    this.pages = h("div", { class: "pages" });
    this.element = h("div", {}, h("div", { class: "scroll" }, this.table), this.pages);
    this.drawHead();
  }

  remember() {
    this.memory.set({ q: this.input?.value || null, sort: this.sort, page: this.page || null });
  }

  update(rows) {
    this.rows = rows;
    this.draw();
  }

  get found() {
    const words = (this.input?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const rows = words.length ? this.rows.filter((row) => { const text = this.text(row).toLowerCase(); return words.every((word) => text.includes(word)); }) : [...this.rows];
    const [name, way] = this.sort.split(" ");
    const column = this.columns.find((one) => one.name === name) ?? this.columns[0];
    const sign = way === "up" ? 1 : -1;
    // Unknown values come last in either order.
    return rows.sort((left, right) => {
      const [a, b] = [column.value(left) ?? null, column.value(right) ?? null];
      if (a === null || b === null) return (a === null) - (b === null);
      const order = typeof a === "string" ? a.localeCompare(b) : a - b || 0;
      return sign * order || this.key(left).localeCompare(this.key(right));
    });
  }

  drawHead() {
    const [name, way] = this.sort.split(" ");
    fill(this.head, h("tr", {}, this.columns.map((column) => h("th", { scope: "col", class: column.number ? "number" : null, title: column.title, "aria-sort": column.name === name ? (way === "up" ? "ascending" : "descending") : null },
      column.value ? h("button", { type: "button", onclick: () => this.sortBy(column) }, column.label, column.name === name ? (way === "up" ? " ▲" : " ▼") : "") : column.label))));
  }

  sortBy(column) {
    const [name, way] = this.sort.split(" ");
    const first = column.number ? "down" : "up";
    this.sort = `${column.name} ${column.name === name ? (way === "up" ? "down" : "up") : first}`;
    this.page = 0;
    this.remember();
    this.drawHead();
    this.draw();
  }

  turn(by) {
    this.page += by;
    this.chosen = null;
    this.remember();
    this.draw();
  }

  // Moves the chosen row; the first time to the first one.
  choose(by) {
    const rows = [...this.body.rows].filter((row) => row.dataset.key);
    if (!rows.length) return;
    const at = rows.findIndex((row) => row.dataset.key === this.chosen);
    const next = rows[Math.max(0, Math.min(rows.length - 1, at < 0 ? 0 : at + by))];
    this.chosen = next.dataset.key;
    rows.forEach((row) => row.classList.toggle("chosen", row === next));
    (next.querySelector("a") ?? next).focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  draw() {
    if (this.rows === null) return;
    const found = this.found;
    const last = Math.max(0, Math.ceil(found.length / PAGE_ROWS) - 1);
    this.page = Math.min(this.page, last);
    const from = this.page * PAGE_ROWS;
    const shown = found.slice(from, from + PAGE_ROWS);
    const focused = this.body.contains(document.activeElement) ? document.activeElement.closest("tr")?.dataset.key : null;
    if (!shown.length) {
      const text = this.rows.length ? state("Nothing matches", "Change or clear the search.") : this.emptyState();
      fill(this.body, h("tr", {}, h("td", { colspan: this.columns.length }, text)));
    } else {
      fill(this.body, shown.map((row) => {
        const key = this.key(row);
        return h("tr", { "data-key": key, class: key === this.chosen ? "chosen" : null }, this.columns.map((column) => h("td", { class: [column.number && "number", column.wide && "wide"].filter(Boolean).join(" ") || null }, column.cell(row))));
      }));
      if (focused) [...this.body.rows].find((row) => row.dataset.key === focused)?.querySelector("a")?.focus({ preventScroll: true });
    }
    fill(this.count, this.input?.value ? `${found.length.toLocaleString("en-US")} of ${this.rows.length.toLocaleString("en-US")}` : this.rows.length.toLocaleString("en-US"));
    fill(this.pages, last > 0 && [
      h("button", { type: "button", disabled: this.page === 0, onclick: () => this.turn(-1) }, "← previous"),
      h("span", {}, `${(from + 1).toLocaleString("en-US")}–${(from + shown.length).toLocaleString("en-US")} of ${found.length.toLocaleString("en-US")}`),
      h("button", { type: "button", disabled: this.page >= last, onclick: () => this.turn(1) }, "next →"),
    ]);
    performance.mark("tidegate-table");
  }
}

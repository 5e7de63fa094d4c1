// Elements from text. Everything from the data is put in as text, never as markup.

export function h(name, attributes = {}, ...children) {
  const element = name === "svg" || name === "path" || name === "polyline"
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "value") element.value = value;
    else element.setAttribute(key, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

export const state = (title, ...more) => h("p", { class: "state" }, h("strong", {}, title), ...more);

// A page until its first answer, and then its content.
export const loading = () => h("div", { "data-loading": "yes" }, state("Loading …"));
export function show(element, content) {
  if (!element.dataset.loading) return;
  delete element.dataset.loading;
  fill(element, content);
}

export function tile(name, value, more = "", kind = "") {
  return h("div", { class: "tile" }, h("div", { class: "name" }, name),
    h("div", { class: `value ${kind}` }, value), h("div", { class: "more" }, more));
}

export function card(title, { right = [], id = null, note = null } = {}, ...children) {
  return h("section", { class: "card", id, "aria-label": title },
    h("div", { class: "head" }, h("h2", {}, title), note && h("span", { class: "quiet" }, note), h("div", { class: "right" }, right)),
    ...children);
}

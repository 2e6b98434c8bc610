"use strict";
// What the rest of the page is made with. Text of others only ever becomes text nodes: no call here parses markup.

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";

function element(node, options, children) {
  for (const [name, value] of Object.entries(options || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}
const h = (tag, options, ...children) => element(document.createElement(tag), options, children);
const s = (tag, options, ...children) => element(document.createElementNS(SVG, tag), options, children);
// a name of somebody else's: its direction does not spread to what stands beside it
const foreign = (text, options) => h("bdi", options, text);

// numbers that JSON lacks come as texts
function numeric(value) {
  if (typeof value !== "string") return value;
  return value === "nan" ? NaN : value === "inf" ? Infinity : -Infinity;
}
const isFinite_ = (value) => typeof value === "number" && Number.isFinite(value);

function format(value, digits = 4) {
  value = numeric(value);
  if (value === null || value === undefined) return "–";
  if (Number.isNaN(value)) return "NaN";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "−∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-4) return value.toExponential(Math.min(digits - 1, 3)).replace(/\.?0+e/, "e").replace("e+", "e").replaceAll("-", "−");
  return String(Number(value.toPrecision(digits))).replace("-", "−");
}
const grouped = (value) => value === null || value === undefined ? "–" : typeof value === "number" ? value.toLocaleString("en-US") : format(value);

function bytes(count) {
  if (count < 1024) return count + " B";
  let value = count;
  for (const unit of ["KiB", "MiB", "GiB", "TiB"]) {
    value /= 1024;
    if (value < 1024 || unit === "TiB") return (value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en-US")) + " " + unit;
  }
}
const plural = (count, noun) => `${count.toLocaleString("en-US")} ${noun}${count === 1 ? "" : "s"}`;

// the middle of a long name is the least telling part; of arrays the end tells most
function shorten(text, length, tail = 0.5) {
  if (text.length <= length) return text;
  const end = Math.ceil((length - 1) * tail);
  return text.slice(0, length - 1 - end) + "…" + text.slice(text.length - end);
}

// colours of the theme as the canvas takes them
const probe = h("span", { hidden: true });
function colour(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

// anchors of cividis and of a blue to orange scale: both are told apart with any colour vision
const CIVIDIS = [[0, 34, 78], [18, 53, 112], [59, 73, 108], [87, 93, 109], [112, 113, 115], [138, 134, 120], [165, 156, 116], [195, 179, 105], [225, 204, 85], [254, 232, 56]];
const AWAY_LIGHT = [[8, 64, 129], [43, 119, 181], [116, 169, 207], [200, 221, 236], [246, 246, 244], [250, 214, 177], [241, 153, 84], [211, 92, 18], [127, 45, 4]];
const AWAY_DARK = [[128, 196, 255], [82, 156, 222], [46, 112, 170], [30, 70, 106], [34, 40, 48], [92, 58, 30], [158, 89, 32], [222, 128, 52], [255, 178, 110]];
function mix(stops, share) {
  const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1);
  const low = Math.min(Math.floor(at), stops.length - 2), part = at - low;
  return "rgb(" + stops[low].map((value, place) => Math.round(value + (stops[low + 1][place] - value) * part)).join(",") + ")";
}
const isDark = () => document.documentElement.dataset.theme === "dark" ||
  (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);

// what is drawn again when width, theme or chosen run change
const painters = [];
function paintAll() { for (const paint of painters) paint(); }
function painted(paint) { painters.push(paint); paint(); }
let chosenRun = 0;
const switches = [];
function chooseRun(run) {
  chosenRun = run;
  for (const change of switches) change();
}

function segments(label, texts, chosen, choose) {
  const buttons = texts.map((text, place) => h("button", { type: "button", "aria-pressed": String(place === chosen()), onclick: () => choose(place) }, foreign(text)));
  const group = h("div", { class: "segments", role: "group", "aria-label": label }, buttons);
  group.update = () => buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(place === chosen())));
  return group;
}
function runSegments() {
  if (data.runs.length < 2) return null;
  const group = segments("Run", data.runs.map((run) => run.name), () => chosenRun, chooseRun);
  switches.push(group.update);
  return group;
}
function select(label, options, change, value) {
  const box = h("select", { onchange: () => change(box.value) }, options.map(([key, text]) => h("option", { value: key }, text)));
  if (value !== undefined) box.value = value;
  return h("label", {}, label, box);
}
function checkbox(label, change, checked) {
  const box = h("input", { type: "checkbox", onchange: () => change(box.checked) });
  box.checked = Boolean(checked);
  return h("label", {}, box, label);
}

// a table for those who do not see or print the chart, made when it is opened
function tableOf(headings, rows, numbers = 1) {
  const body = h("tbody");
  for (const row of rows) {
    body.append(h("tr", {}, row.map((cell, place) => h("td", { class: place >= numbers ? "number" : "name" }, typeof cell === "string" ? foreign(cell) : format(cell)))));
  }
  return h("table", { class: "full" }, h("thead", {}, h("tr", {}, headings.map((text, place) => h("th", { scope: "col", class: place >= numbers ? "number" : null }, text)))), body);
}
function lazyTable(label, make, wide = false) {
  const inside = h("div", { class: wide ? "scroll wide-table" : "scroll", tabindex: "0", role: "region", "aria-label": label });
  const details = h("details", { ontoggle: () => { if (details.open && !inside.firstChild) inside.append(make()); } }, h("summary", {}, "Show as table"), inside);
  details.fill = () => { if (!inside.firstChild) inside.append(make()); };
  details.forget = () => { inside.replaceChildren(); if (details.open) inside.append(make()); };
  return details;
}

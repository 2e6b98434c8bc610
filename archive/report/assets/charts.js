// Learning curves: one chart a metric, the lines of all runs in it.

const curves = { clients: "range", log: false, client: "" };
const PLOT = { height: 190, left: 46, right: 10, top: 8, bottom: 22 };

function ticksOf(low, high, count) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const raw = span / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((one) => one * power).find((one) => one >= raw);
  const found = [];
  for (let at = Math.ceil(low / step - 1e-9) * step; at <= high + step * 1e-9; at += step) found.push(Math.abs(at) < step / 1e6 ? 0 : at);
  return found;
}
function roundTicks(first, last, width) {
  const found = ticksOf(first, last, Math.max(2, Math.floor(width / 56))).filter(Number.isInteger);
  return found.length ? found : [first];
}

class Chart {
  constructor(metric) {
    this.metric = metric;
    for (const line of metric.lines) {
      for (const name of ["model", "low", "median", "high"]) line[name] = line[name].map(numeric);
      for (const client of line.clients) client[1] = client[1].map(numeric);
    }
    this.rounds = [...new Set(metric.lines.flatMap((line) => line.rounds))].sort((a, b) => a - b);
    this.cursor = -1;
    this.plot = h("div", {
      class: "plot", tabindex: "0", role: "group", "aria-label": `${metric.name} by round. Left and right arrow keys read its values.`,
      onkeydown: (event) => this.key(event), onpointermove: (event) => this.point(event), onpointerleave: () => this.move(-1), onblur: () => this.move(-1),
    });
    this.readout = h("div", { class: "readout", "aria-live": "polite" });
    this.table = lazyTable(`${metric.name} as a table`, () => this.asTable());
    this.node = h("figure", { class: "card" }, h("h3", {}, foreign(metric.name)), this.plot, this.readout, this.table);
    this.node.style.margin = "0";
  }
  shown(line) {
    const some = line.model.some((value) => value !== null);
    return { some, lines: curves.clients === "lines" || !some && line.clients.length === 1, band: curves.clients === "range" && line.total > 1 };
  }
  chosen(line) { return line.clients.find(([name]) => name === curves.client); }
  values() {
    const found = [];
    for (const line of this.metric.lines) {
      const shown = this.shown(line);
      found.push(...line.model);
      if (shown.lines) for (const client of line.clients) found.push(...client[1]);
      if (shown.band) found.push(...line.low, ...line.high);
      if (!shown.some) found.push(...line.median);
      const chosen = this.chosen(line);
      if (chosen) found.push(...chosen[1]);
    }
    return found.filter((value) => isFinite_(value) && (!this.log || value > 0));
  }
  paint() {
    const width = Math.max(this.plot.clientWidth, 240);
    this.log = curves.log && this.metric.lines.some((line) => [...line.model, ...line.median].some((value) => value > 0));
    const values = this.values(), { height, left, right, top, bottom } = PLOT;
    let low = Infinity, high = -Infinity;
    for (const value of values) { if (value < low) low = value; if (value > high) high = value; }
    if (!values.length) [low, high] = [0, 1];
    const scale = this.log ? Math.log10 : (value) => value;
    if (low === high) { const room = Math.abs(low) / 10 || 0.5; [low, high] = this.log ? [low / 2, high * 2] : [low - room, high + room]; }
    const [from, to] = [scale(low), scale(high)], first = this.rounds[0], last = this.rounds[this.rounds.length - 1];
    this.x = (round) => last === first ? (left + width - right) / 2 : left + (round - first) / (last - first) * (width - left - right);
    this.y = (value) => height - bottom - (scale(value) - from) / (to - from) * (height - top - bottom);
    const svg = s("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": this.summary() });
    const ticks = this.log ? ticksOf(from, to, 4).filter((tick) => to - from < 1.5 || Number.isInteger(tick)).map((tick) => 10 ** tick) : ticksOf(low, high, 4);
    for (const tick of ticks) {
      const y = this.y(tick);
      svg.append(s("line", { class: "gridline", x1: left, x2: width - right, y1: y, y2: y }), s("text", { x: left - 6, y: y + 4, "text-anchor": "end" }, format(tick, 3)));
    }
    for (const tick of roundTicks(first, last, width - left - right)) svg.append(s("text", { x: this.x(tick), y: height - 6, "text-anchor": "middle" }, String(tick)));
    svg.append(s("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom, y2: height - bottom }));
    for (const line of this.metric.lines) this.draw(svg, line);
    this.line = s("line", { class: "cursor", y1: top, y2: height - bottom, visibility: "hidden" });
    svg.append(this.line);
    this.plot.replaceChildren(svg);
    this.move(this.cursor);
  }
  draw(svg, line) {
    const shown = this.shown(line), run = line.run;
    if (shown.band) {
      const at = line.rounds.map((_, place) => place).filter((place) => this.seen(line.low[place]) && this.seen(line.high[place]));
      const point = (place, values) => `${this.x(line.rounds[place]).toFixed(1)},${this.y(values[place]).toFixed(1)}`;
      if (at.length) svg.append(s("polygon", { class: `band f${run}`, points: [...at.map((place) => point(place, line.high)), ...at.reverse().map((place) => point(place, line.low))].join(" ") }));
    }
    if (shown.lines) for (const client of line.clients) svg.append(this.path(line.rounds, client[1], `client s${run}`));
    const chosen = this.chosen(line);
    if (chosen) svg.append(this.path(line.rounds, chosen[1], `client chosen s${run}`));
    const main = shown.some ? line.model : line.median;
    svg.append(this.path(line.rounds, main, `line s${run}`));
    const there = main.map((value, place) => place).filter((place) => this.seen(main[place]));
    if (there.length === 1) svg.append(s("circle", { class: `f${run}`, r: 3.5, cx: this.x(line.rounds[there[0]]), cy: this.y(main[there[0]]) }));
    // what is no number has no height: a cross at the bottom
    const odd = new Set(line.rounds.filter((_, place) => [main[place], ...line.clients.map((client) => client[1][place])].some((value) => typeof value === "number" && !Number.isFinite(value))));
    for (const round of odd) {
      const x = this.x(round), y = PLOT.height - PLOT.bottom - 7;
      svg.append(s("path", { class: "cross", d: `M${x - 4} ${y - 4}l8 8m0-8l-8 8` }, s("title", {}, `NaN or infinity in round ${round}`)));
    }
  }
  seen(value) { return isFinite_(value) && (!this.log || value > 0); }
  path(rounds, values, kind) {
    let d = "", pen = "M";
    rounds.forEach((round, place) => {
      if (!this.seen(values[place])) { if (values[place] !== null) pen = "M"; return; }
      d += `${pen}${this.x(round).toFixed(1)} ${this.y(values[place]).toFixed(1)}`;
      pen = "L";
    });
    return s("path", { class: kind, d });
  }
  summary() {
    return `${this.metric.name}. ` + this.metric.lines.map((line) => {
      const main = line.model.some((value) => value !== null) ? line.model : line.median;
      const there = main.map((value, place) => [line.rounds[place], value]).filter(([, value]) => value !== null);
      if (!there.length) return "";
      const [first, last] = [there[0], there[there.length - 1]];
      return `${data.runs[line.run].name}: ${format(first[1])} in round ${first[0]}, ${format(last[1])} in round ${last[0]}`;
    }).join("; ");
  }
  key(event) {
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const at = this.cursor < 0 ? (event.key === "ArrowLeft" ? this.rounds.length : -1) : this.cursor;
    this.move(Math.min(Math.max(at + steps[event.key], 0), this.rounds.length - 1));
  }
  point(event) {
    const box = this.plot.getBoundingClientRect(), x = event.clientX - box.left;
    let best = 0;
    this.rounds.forEach((round, place) => { if (Math.abs(this.x(round) - x) < Math.abs(this.x(this.rounds[best]) - x)) best = place; });
    this.move(best);
  }
  move(place) {
    this.cursor = place;
    if (place < 0) {
      this.line.setAttribute("visibility", "hidden");
      this.readout.replaceChildren(this.latest());
      return;
    }
    const round = this.rounds[place];
    for (const name of ["x1", "x2"]) this.line.setAttribute(name, this.x(round));
    this.line.setAttribute("visibility", "visible");
    this.readout.replaceChildren(h("b", {}, `Round ${round}`), ...this.metric.lines.map((line) => this.told(line, line.rounds.indexOf(round))));
  }
  latest() {
    const last = this.rounds.length - 1;
    return h("span", {}, `Newest, round ${this.rounds[last]}`, ...this.metric.lines.map((line) => this.told(line, line.rounds.length - 1)));
  }
  told(line, place) {
    const parts = [];
    if (place >= 0) {
      if (line.model[place] !== null) parts.push(h("b", {}, format(line.model[place])));
      if (line.total && line.median[place] !== null) parts.push(` clients ${format(line.median[place])} (${format(line.low[place])} to ${format(line.high[place])})`);
      const chosen = this.chosen(line);
      if (chosen) parts.push(" ", foreign(curves.client), ` ${format(chosen[1][place])}`);
    }
    return h("div", {}, data.runs.length > 1 ? [foreign(shorten(data.runs[line.run].name, 28)), ": "] : "", parts.length ? parts : "–");
  }
  asTable() {
    const columns = [], headings = ["round"];
    for (const line of this.metric.lines) {
      const prefix = data.runs.length > 1 ? data.runs[line.run].name + " " : "";
      const lookup = (values) => (round) => { const place = line.rounds.indexOf(round); return place < 0 ? null : values[place]; };
      if (line.model.some((value) => value !== null)) { headings.push(prefix + "model"); columns.push(lookup(line.model)); }
      if (line.total) for (const name of ["low", "median", "high"]) { headings.push(`${prefix}clients ${name}`); columns.push(lookup(line[name])); }
    }
    return tableOf(headings, this.rounds.map((round) => [String(round), ...columns.map((column) => column(round))]));
  }
}

function curvesSection() {
  const charts = data.metrics.map((metric) => new Chart(metric));
  const repaint = () => charts.forEach((chart) => chart.paint());
  const clients = [...new Set(data.metrics.flatMap((metric) => metric.lines.flatMap((line) => line.clients.map(([name]) => name))))].sort();
  const controls = [];
  if (clients.length) {
    controls.push(select("Clients", [["range", "range"], ["lines", "lines"], ["none", "hidden"]], (value) => { curves.clients = value; repaint(); }, curves.clients));
    controls.push(select("Highlight", [["", "nobody"], ...clients.map((name) => [name, shorten(name, 30)])], (value) => { curves.client = value; repaint(); }));
  }
  controls.push(checkbox("log scale", (value) => { curves.log = value; repaint(); }));
  const legend = h("div", { class: "legend" }, data.runs.map((run, place) => data.metrics.some((metric) => metric.lines.some((line) => line.run === place)) &&
    h("span", {}, s("svg", { width: 26, height: 12, "aria-hidden": "true" }, s("rect", { class: `band f${place}`, width: 26, height: 12 }), s("path", { class: `line s${place}`, d: "M1 6H25" })), foreign(run.name), ""),
    ), clients.length ? h("span", {}, "line: the global model, or the median of the clients where it has none; band: all clients") : "");
  const some = data.metrics.some((metric) => metric.lines.some((line) => line.clients.length < line.total));
  const node = h("div", {}, legend, some ? h("p", { class: "lead" }, "Of many clients some have a line; all are in the range.") : null, h("div", { class: charts.length === 1 ? "grid one" : "grid" }, charts.map((chart) => chart.node)));
  return { controls, node, paint: repaint };
}

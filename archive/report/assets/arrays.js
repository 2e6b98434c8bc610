// Arrays as a tree: only the rows in sight are in the document, however many there are.

const ROW = 28, HEADING = 34, SPARE = 8, PRINTED = 1500;
const HEIGHTS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
const NUMBERS = ["low", "high", "mean", "std", "norm", "zeros", "nan", "inf"];

function barsOf(text, width, height, kind) {
  const wide = width / text.length;
  let d = "";
  for (let place = 0; place < text.length; place++) {
    const tall = HEIGHTS.indexOf(text[place]) / (HEIGHTS.length - 1) * height;
    if (tall > 0) d += `M${(place * wide).toFixed(1)} ${height}v${-Math.max(tall, 1).toFixed(1)}h${Math.max(wide - (width > 100 ? 1 : 0.3), 0.7).toFixed(1)}v${Math.max(tall, 1).toFixed(1)}z`;
  }
  return s("path", { class: kind, d });
}

class Arrays {
  constructor(found, run) {
    this.found = found;
    this.run = run;
    for (const name of NUMBERS) if (found[name].some((value) => typeof value === "string")) found[name] = found[name].map(numeric);
    this.problems = new Map(found.problems);
    this.full = found.key.map((key, at) => (found.records.length > 1 ? found.records[found.record[at]] + "/" : "") + key);
    this.sort = { column: "order", falling: false };
    this.query = "";
    this.dtype = "";
    this.odd = false;
    this.flat = false;
    this.open = new Set();
    this.selected = null;
    this.root = this.build();
    this.openSome();
    this.parts();
  }
  // groups by what stands between dots and slashes; a group of one is no group
  build() {
    const root = { id: "", name: "", children: [], groups: new Map(), parent: null };
    this.full.forEach((name, at) => {
      const parts = name.match(/[^./]*[./]|[^./]+$/g) || [name];
      let group = root, path = "";
      for (let place = 0; place < parts.length - 1 && place < 24; place++) {
        path += parts[place];
        let below = group.groups.get(parts[place]);
        if (!below) { below = { id: path, name: parts[place], children: [], groups: new Map(), parent: group }; group.groups.set(parts[place], below); group.children.push(below); }
        group = below;
      }
      group.children.push({ at, name: name.slice(path.length) || name, parent: group, id: `#${at}` });
    });
    return this.close(root);
  }
  close(group) {
    for (let place = 0; place < group.children.length; place++) {
      let child = group.children[place];
      if (!child.groups) continue;
      while (child.children.length === 1) {
        const only = child.children[0];
        only.name = child.name + only.name; only.parent = group;
        child = only;
        if (!child.groups) break;
      }
      group.children[place] = child.groups ? this.close(child) : child;
    }
    const sum = (pick) => group.children.reduce((total, child) => total + pick(child), 0);
    group.count = sum((child) => child.groups ? child.count : 1);
    group.bytes = sum((child) => this.of(child, "bytes"));
    group.norm = Math.sqrt(sum((child) => (this.of(child, "norm") || 0) ** 2));
    group.odd = sum((child) => this.of(child, "odd"));
    group.damaged = sum((child) => child.groups ? child.damaged : Number(this.problems.has(child.at)));
    return group;
  }
  of(node, column) {
    if (node.groups) return node[column];
    if (column === "odd") return (this.found.nan[node.at] || 0) + (this.found.inf[node.at] || 0);
    return this.found[column][node.at];
  }
  openSome() {
    let level = this.root.children.filter((child) => child.groups), shown = this.root.children.length;
    while (level.length) {
      const more = level.reduce((total, group) => total + group.children.length, 0);
      if (shown + more > 60 && shown > 1) break;
      level.forEach((group) => this.open.add(group.id));
      shown += more;
      level = level.flatMap((group) => group.children.filter((child) => child.groups));
    }
  }
  matches() {
    const words = this.query.toLowerCase().split(/\s+/).filter(Boolean), { dtype, dtypes, shape, nan, inf } = this.found;
    if (!words.length && !this.dtype && !this.odd) return null;
    this.lower = this.lower || this.full.map((name) => name.toLowerCase());
    return new Set(this.full.map((_, at) => at).filter((at) => words.every((word) => this.lower[at].includes(word) || dtypes[dtype[at]].includes(word) || shape[at].includes(word)) &&
      (!this.dtype || dtypes[dtype[at]] === this.dtype) && (!this.odd || nan[at] > 0 || inf[at] > 0 || this.problems.has(at))));
  }
  order(nodes) {
    const { column, falling } = this.sort;
    if (column === "order") return falling ? nodes.slice().reverse() : nodes;
    const key = {
      name: (node) => node.groups ? node.name : this.flat ? this.full[node.at] : node.name,
      dtype: (node) => node.groups ? "" : this.found.dtypes[this.found.dtype[node.at]],
    }[column] || ((node) => this.of(node, column));
    const sorted = nodes.map((node) => [key(node), node]).sort(([one], [other]) => {
      if (typeof one === "string") return one.localeCompare(other, "en", { numeric: true });
      const none = [one, other].map((value) => typeof value !== "number" || Number.isNaN(value));
      return none[0] || none[1] ? (falling ? none[1] - none[0] : none[0] - none[1]) : one - other;
    }).map(([, node]) => node);
    return falling ? sorted.reverse() : sorted;
  }
  list() {
    const kept = this.matches(), rows = [];
    this.shown = kept ? kept.size : this.full.length;
    if (this.flat) {
      const nodes = this.full.map((name, at) => ({ at, name, id: `#${at}` })).filter((node) => !kept || kept.has(node.at));
      this.rows = this.order(nodes).map((node) => ({ node, level: 1 }));
      return;
    }
    const some = new Set();
    if (kept) for (const leaf of this.leaves(this.root)) if (kept.has(leaf.at)) for (let node = leaf; node; node = node.parent) some.add(node);
    const walk = (group, level) => {
      for (const node of this.order(group.children)) {
        if (kept && !some.has(node)) continue;
        const open = node.groups && (kept || this.open.has(node.id));
        rows.push({ node, level, open });
        if (open) walk(node, level + 1);
      }
    };
    walk(this.root, 1);
    this.rows = rows;
  }
  *leaves(group) {
    for (const child of group.children) { if (child.groups) yield* this.leaves(child); else yield child; }
  }
  parts() {
    const columns = [["name", "Name", ""], ["dtype", "Type", ""], [null, "Shape", "extra right"], ["bytes", "Size", "right"], [null, "Values", "extra"], ["norm", "Norm", "extra right"], ["odd", "NaN, ∞", "extra right"]];
    this.headings = columns.map(([column, text, kind]) => {
      const inside = column ? h("button", { type: "button", onclick: () => this.sortBy(column) }, text) : h("span", { class: "plain" }, text);
      return { column, text, inside, node: h("div", { class: kind, role: "columnheader" }, inside) };
    });
    this.space = h("div", { class: "space", role: "rowgroup" });
    this.window = h("div", {
      class: "window", role: "treegrid", tabindex: "0", "aria-label": "Arrays. Up and down choose a row, right and left open and close a group.",
      onkeydown: (event) => this.key(event), onclick: (event) => this.click(event), onscroll: () => this.draw(),
    }, h("div", { class: "top", role: "rowgroup" }, h("div", { class: "tr heading", role: "row" }, this.headings.map((heading) => heading.node))), this.space);
    this.count = h("div", { class: "count", role: "status" });
    this.detail = h("aside", { class: "card detail", "aria-live": "polite", "aria-label": "Chosen array" });
    const dtypes = this.found.dtypes.slice().sort();
    this.flatBox = checkbox("flat list", (value) => { this.flat = value; this.refresh(); });
    this.tools = h("div", { class: "tools", role: "search", "aria-label": "Arrays" },
      h("input", { type: "search", placeholder: "Filter by name, type or shape", "aria-label": "Filter arrays by name, type or shape", spellcheck: "false", oninput: (event) => { this.query = event.target.value; this.later(); } }),
      dtypes.length > 1 ? select("Type", [["", "all"], ...dtypes.map((name) => [name, name || "none"])], (value) => { this.dtype = value; this.refresh(); }) : null,
      checkbox("NaN, ∞ or damaged", (value) => { this.odd = value; this.refresh(); }), this.flatBox,
      h("button", { type: "button", onclick: () => this.all(true) }, "Open all"), h("button", { type: "button", onclick: () => this.all(false) }, "Close all"));
    this.printed = h("div", { class: "printed" });
    this.node = h("div", {}, this.tools, h("div", { class: "split" }, h("div", { class: "tree" }, this.window, this.count), this.detail), this.printed);
    this.list();
    this.select(this.rows.find((row) => !row.node.groups) || this.rows[0], false);
  }
  later() {
    cancelAnimationFrame(this.waiting);
    this.waiting = requestAnimationFrame(() => this.refresh());
  }
  all(open) {
    this.open.clear();
    if (open) { const add = (group) => { for (const child of group.children) if (child.groups) { this.open.add(child.id); add(child); } }; add(this.root); }
    this.refresh();
  }
  sortBy(column) {
    const same = this.sort.column === column, first = column !== "name" && column !== "dtype";
    if (same && this.sort.falling !== first) this.sort = { column: "order", falling: false };
    else this.sort = { column, falling: same ? !this.sort.falling : first };
    this.refresh();
  }
  refresh() {
    this.list();
    this.window.scrollTop = 0;
    this.draw();
  }
  draw() {
    this.space.style.height = `${this.rows.length * ROW}px`;
    const height = Math.min(504, Math.max(this.rows.length, 3) * ROW);
    this.window.style.height = `${height + HEADING}px`;
    const first = Math.max(Math.floor(this.window.scrollTop / ROW) - SPARE, 0), last = Math.min(first + Math.ceil(height / ROW) + 2 * SPARE, this.rows.length);
    const made = [];
    for (let place = first; place < last; place++) made.push(this.row(place));
    this.space.replaceChildren(...made);
    this.window.setAttribute("aria-rowcount", String(this.rows.length + 1));
    const chosen = this.rows.findIndex((row) => row.node.id === this.selected);
    if (chosen >= first && chosen < last) this.window.setAttribute("aria-activedescendant", `${this.run}-row-${chosen}`);
    else this.window.removeAttribute("aria-activedescendant");
    for (const { column, text, inside, node } of this.headings) {
      if (!column) continue;
      const on = this.sort.column === column;
      inside.textContent = text + (on ? (this.sort.falling ? " ↓" : " ↑") : "");
      if (on) node.setAttribute("aria-sort", this.sort.falling ? "descending" : "ascending"); else node.removeAttribute("aria-sort");
    }
    const { total, left } = this.found;
    this.count.textContent = (this.shown === this.full.length ? plural(this.full.length, "array") : `${grouped(this.shown)} of ${plural(this.full.length, "array")}`) +
      (left[0] ? `; ${grouped(left[0])} of ${grouped(total)} more (${left[1]}) are not in this page` : "");
  }
  row(place) {
    const { node, level, open } = this.rows[place], { found } = this, group = Boolean(node.groups), at = node.at;
    const odd = this.of(node, "odd"), damaged = group ? node.damaged : this.problems.has(at);
    const name = h("div", { class: "name", role: "gridcell" }, this.flat ? null : h("span", { class: group ? "twist" : "twist leaf", "aria-hidden": "true" }, group ? (open ? "▾" : "▸") : ""), foreign(node.name, { title: group ? node.id : this.full[at] }));
    if (!this.flat) name.style.paddingLeft = `${8 + (level - 1) * 16}px`;
    const cells = [
      name,
      h("div", { class: group ? "muted span" : "muted", role: "gridcell", "aria-colspan": group ? "2" : null }, group ? plural(node.count, "array") : foreign(found.dtypes[found.dtype[at]])),
      group ? null : h("div", { class: "extra right mono", role: "gridcell" }, found.shape[at]),
      h("div", { class: "right", role: "gridcell" }, bytes(this.of(node, "bytes"))),
      h("div", { class: "extra", role: "gridcell" }, !group && found.bars[at] ? s("svg", { width: 70, height: 18, "aria-hidden": "true" }, barsOf(found.bars[at], 70, 18, `bars run${this.run}`)) : ""),
      h("div", { class: "extra right", role: "gridcell" }, damaged && !group ? "" : format(this.of(node, "norm"), 3)),
      h("div", { class: "extra right" + (odd || damaged ? " alert" : " muted"), role: "gridcell" }, damaged ? "damaged" : odd ? grouped(odd) : "0"),
    ];
    const row = h("div", {
      class: "tr item" + (group ? " group" : ""), role: "row", id: `${this.run}-row-${place}`, "data-place": String(place), "aria-level": String(level), "aria-rowindex": String(place + 2),
      "aria-selected": String(node.id === this.selected), "aria-expanded": group ? String(Boolean(open)) : null,
    }, cells);
    row.style.transform = `translateY(${place * ROW}px)`;
    return row;
  }
  click(event) {
    const item = event.target.closest(".item");
    if (!item) return;
    const row = this.rows[Number(item.dataset.place)];
    if (row.node.groups && (event.target.closest(".twist") || row.node.id === this.selected)) this.toggle(row);
    this.select(row);
  }
  toggle(row) {
    if (this.open.has(row.node.id)) this.open.delete(row.node.id); else this.open.add(row.node.id);
    this.list();
  }
  key(event) {
    if (event.target !== this.window) return;
    const at = this.rows.findIndex((row) => row.node.id === this.selected), page = Math.floor((this.window.clientHeight - HEADING) / ROW) - 1, last = this.rows.length - 1;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    const row = this.rows[at];
    if (event.key in steps) this.select(this.rows[Math.min(Math.max(at + steps[event.key], 0), last)]);
    else if (event.key === "ArrowRight" && row && row.node.groups && !row.open) { this.toggle(row); this.select(row); }
    else if (event.key === "ArrowRight" && row && row.node.groups) this.select(this.rows[Math.min(at + 1, last)]);
    else if (event.key === "ArrowLeft" && row && row.open) { this.toggle(row); this.select(row); }
    else if (event.key === "ArrowLeft" && row && row.node.parent && row.node.parent.id) this.select({ node: row.node.parent });
    else if ((event.key === "Enter" || event.key === " ") && row && row.node.groups) { this.toggle(row); this.select(row); }
    else return;
    event.preventDefault();
  }
  select(row, scroll = true) {
    if (!row) { this.detail.replaceChildren(h("p", { class: "muted" }, "No array.")); return; }
    this.selected = row.node.id;
    const place = this.rows.findIndex((one) => one.node.id === this.selected);
    if (scroll && place >= 0) {
      const top = place * ROW, box = this.window;
      if (top < box.scrollTop) box.scrollTop = top;
      const room = box.clientHeight - HEADING;
      if (top + ROW > box.scrollTop + room) box.scrollTop = top + ROW - room;
    }
    this.draw();
    this.tell(row.node);
  }
  tell(node) {
    const pairs = (facts) => h("dl", {}, facts.map(([label, text]) => [h("dt", {}, label), h("dd", {}, text)]));
    if (node.groups) {
      this.detail.replaceChildren(h("h3", {}, foreign(node.id || "all")), pairs([["arrays", grouped(node.count)], ["size", bytes(node.bytes)], ["norm", format(node.norm)], ["NaN and infinities", grouped(node.odd)]]));
      return;
    }
    const { found } = this, at = node.at, problem = this.problems.get(at);
    const facts = [["record", foreign(found.records[found.record[at]])], ["type", foreign(found.dtypes[found.dtype[at]] || "–")], ["shape", found.shape[at] || "scalar"], ["elements", grouped(found.count[at])],
      ["size", `${bytes(found.bytes[at])}${found.bytes[at] || !found.count[at] ? "" : " (tied)"}`]];
    if (found.norm[at] !== null) facts.push(...[["smallest", "low"], ["largest", "high"], ["mean", "mean"], ["standard deviation", "std"], ["norm (L2)", "norm"]].map(([label, name]) => [label, format(found[name][at], 5)]),
      ["zeros", this.part(found.zeros[at], at)], ["NaN", this.part(found.nan[at], at)], ["infinite", this.part(found.inf[at], at)]);
    this.detail.replaceChildren(h("h3", {}, foreign(this.full[at])), problem ? h("p", { class: "alert small" }, foreign(problem)) : "", found.bars[at] ? this.histogram(at) : "", pairs(facts));
  }
  part(count, at) {
    const share = count / found_count(this.found, at);
    return count ? `${grouped(count)} (${share < 0.001 ? "<0.1" : format(share * 100, 3)} %)` : "0";
  }
  histogram(at) {
    const { bars, low, high, mean, dtypes, dtype } = this.found, width = 296, height = 96;
    const place = high[at] > low[at] ? (mean[at] - low[at]) / (high[at] - low[at]) * width : width / 2;
    const label = `Histogram of ${dtypes[dtype[at]]} elements from ${format(low[at])} to ${format(high[at])}, mean ${format(mean[at])}`;
    return h("div", { class: "shape" }, s("svg", { viewBox: `0 0 ${width} ${height + 18}`, role: "img", "aria-label": label },
      barsOf(bars[at], width, height, `bars run${this.run}`), s("line", { class: "axis", x1: 0, x2: width, y1: height, y2: height }),
      s("line", { class: "cursor", x1: place, x2: place, y1: 0, y2: height }),
      s("text", { x: 0, y: height + 14 }, format(low[at], 3)), s("text", { x: width, y: height + 14, "text-anchor": "end" }, format(high[at], 3)),
      place > 60 && place < width - 60 ? s("text", { x: place, y: height + 14, "text-anchor": "middle" }, `mean ${format(mean[at], 2)}`) : null));
  }
  print() {
    const rows = this.rows.filter((row) => !row.node.groups).length ? this.full.map((_, at) => at).slice(0, PRINTED) : [];
    const { found } = this;
    this.printed.replaceChildren(
      tableOf(["array", "type", "shape", "size", "mean", "std", "norm", "NaN, ∞"], rows.map((at) => [this.full[at], found.dtypes[found.dtype[at]], found.shape[at], bytes(found.bytes[at]), found.mean[at], found.std[at], found.norm[at], (found.nan[at] || 0) + (found.inf[at] || 0)]), 3),
      this.full.length > PRINTED ? h("p", { class: "muted" }, `and ${grouped(this.full.length - PRINTED)} more`) : "");
  }
}
const found_count = (found, at) => Math.max(found.count[at], 1);

function arraysSection() {
  const views = data.runs.map(() => null), holder = h("div"), text = h("p", { class: "lead" });
  const view = () => {
    const found = data.runs[chosenRun].arrays;
    if (!found) return null;
    return views[chosenRun] = views[chosenRun] || new Arrays(found, chosenRun);
  };
  const paint = () => {
    const shown = view();
    text.textContent = shown && shown.found.round !== null ? `Of round ${shown.found.round}, the newest that can be read.` : "";
    if (!shown) { holder.replaceChildren(h("p", { class: "card muted" }, "This run has none.")); return; }
    if (holder.firstChild !== shown.node) holder.replaceChildren(shown.node);
    shown.draw();
  };
  switches.push(paint);
  return { controls: [], node: h("div", {}, text, holder), paint, print: () => { const shown = view(); if (shown) shown.print(); } };
}

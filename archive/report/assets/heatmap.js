// Heat maps: rows of layers or clients, columns of rounds.

const CELL = { height: 20, gap: 1, axis: 24 };

class Heatmap {
  // options: label, rows, columns, value(row, column), odd(row, column), outlier(row, column), scale, what;
  // where columns are no rounds: column(column), and ofWhat an outlier is one
  constructor(options) {
    this.options = options;
    this.at = null;
    this.beyond = [false, false];
    this.axis = h("canvas", { class: "axis-canvas", "aria-hidden": "true" });
    this.canvas = h("canvas", { role: "img", "aria-label": options.label });
    this.box = h("div", {
      class: "heat", tabindex: "0", role: "group", "aria-label": `${options.label}. Arrow keys read its cells.`,
      onkeydown: (event) => this.key(event), onpointermove: (event) => this.point(event), onpointerleave: () => this.move(null), onblur: () => this.move(null),
    }, this.axis, this.canvas);
    this.readout = h("div", { class: "readout", "aria-live": "polite" });
    this.readout.style.minHeight = "20px";
    this.scale = h("div", { class: "scale" });
    this.table = lazyTable(`${options.label} as a table`, () => this.asTable(), options.columns.length > 25);
    this.node = h("figure", { class: "card" }, this.box, this.readout, this.scale, this.table);
    this.node.style.margin = "0";
  }
  set(options) {
    Object.assign(this.options, options);
    this.at = null;
    this.canvas.setAttribute("aria-label", this.options.label);
    this.table.forget();
    this.paint();
  }
  // most cells decide the colours: one that is far off would leave the others alike
  range() {
    const { rows, columns, value, scale } = this.options, found = [];
    for (let row = 0; row < rows.length; row++) for (let column = 0; column < columns.length; column++) {
      const one = value(row, column);
      if (isFinite_(one) && (one > 0 || scale === "cosine" || scale === "linear")) found.push(one);
    }
    found.sort((one, other) => one - other);
    if (!found.length) return [0, 1];
    const last = found.length - 1;
    let [low, high] = [found[0], found[last]];
    if (scale !== "linear") [low, high] = [found[Math.floor(last * 0.03)], found[Math.ceil(last * 0.97)]];
    if (scale === "cosine") { const far = Math.max(Math.abs(low), Math.abs(high), 0.1); [low, high] = [-far, far]; }
    if (scale === "ratio") { const far = Math.max(Math.abs(Math.log2(low)), Math.abs(Math.log2(high)), 0.05); [low, high] = [2 ** -far, 2 ** far]; }
    this.beyond = [found[0] < low, found[last] > high];
    return [low, high];
  }
  share(value, [low, high]) {
    const { scale } = this.options;
    if (scale === "log" || scale === "ratio") { if (value <= 0) return 0; [value, low, high] = [Math.log(value), Math.log(low), Math.log(high)]; }
    return high > low ? (value - low) / (high - low) : 0.5;
  }
  stops() {
    return this.options.scale === "cosine" || this.options.scale === "ratio" ? (isDark() ? AWAY_DARK : AWAY_LIGHT) : CIVIDIS;
  }
  paint() {
    const { rows, columns, value, odd, outlier } = this.options;
    const width = Math.max(this.box.clientWidth - 2, 260), ratio = Math.max(devicePixelRatio || 1, 1);
    const font = "12px " + getComputedStyle(document.body).getPropertyValue("--mono"), pen = this.canvas.getContext("2d");
    pen.font = font;
    let left = 0;
    for (const name of rows) left = Math.max(left, pen.measureText(shorten(name, 44, 0.8)).width);
    this.left = left = Math.min(left + 12, width * 0.4);
    const fits = Math.max(Math.floor((left - 12) / pen.measureText("m").width), 4);
    this.cell = Math.min((width - left) / columns.length, 64);
    this.range_ = this.range();
    const stops = this.stops(), text = colour("--text"), muted = colour("--muted"), void_ = colour("--void"), mark = colour("--mark");
    const fit = (canvas, height) => {
      canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
      canvas.style.width = width + "px"; canvas.style.height = height + "px";
      const context = canvas.getContext("2d");
      context.setTransform(ratio, 0, 0, ratio, 0, 0);
      context.font = font;
      return context;
    };
    const top = fit(this.axis, CELL.axis);
    top.fillStyle = muted; top.textAlign = "center";
    const heads = columns.map((one) => shorten(String(one), 12)), widest = heads.reduce((found, one) => Math.max(found, top.measureText(one).width), 0);
    const step = Math.ceil((widest + 8) / this.cell);
    heads.forEach((one, column) => { if (column % step === 0) top.fillText(one, Math.min(left + (column + 0.5) * this.cell, width - top.measureText(one).width / 2), 16); });
    const main = fit(this.canvas, rows.length * CELL.height);
    main.textBaseline = "middle";
    const gap = this.cell > 4 ? CELL.gap : 0;
    rows.forEach((name, row) => {
      const y = row * CELL.height;
      main.fillStyle = text;
      main.fillText(shorten(name, fits, 0.8), 0, y + CELL.height / 2);
      for (let column = 0; column < columns.length; column++) {
        const x = left + column * this.cell, one = value(row, column), wide = this.cell - gap, tall = CELL.height - gap;
        main.fillStyle = isFinite_(one) ? mix(stops, this.share(one, this.range_)) : void_;
        main.fillRect(x, y, wide, tall);
        const middle = [x + wide / 2, y + tall / 2], size = Math.min(wide / 2 - 0.5, 4.5);
        if (odd && odd(row, column) || typeof one === "number" && !Number.isFinite(one)) {
          main.lineWidth = 4; main.strokeStyle = isDark() ? "#11151a" : "#ffffff"; this.cross(main, middle, size);
          main.lineWidth = 2; main.strokeStyle = mark; this.cross(main, middle, size);
        } else if (outlier && outlier(row, column)) {
          main.beginPath(); main.arc(...middle, Math.min(size, 4), 0, 7);
          main.lineWidth = 4; main.strokeStyle = isDark() ? "#11151a" : "#ffffff"; main.stroke();
          main.lineWidth = 2; main.strokeStyle = text; main.stroke();
        }
      }
    });
    this.legend();
    this.move(this.at);
  }
  cross(pen, [x, y], size) {
    pen.beginPath(); pen.moveTo(x - size, y - size); pen.lineTo(x + size, y + size); pen.moveTo(x + size, y - size); pen.lineTo(x - size, y + size); pen.stroke();
  }
  legend() {
    const { rows, columns, value, odd, outlier, scale, what } = this.options, [low, high] = this.range_, stops = this.stops();
    const bar = h("canvas", { width: 160, height: 12, "aria-hidden": "true" }), pen = bar.getContext("2d");
    for (let x = 0; x < 160; x++) { pen.fillStyle = mix(stops, x / 159); pen.fillRect(x, 0, 1, 12); }
    const any = (test) => test && rows.some((_, row) => columns.some((_, column) => test(row, column)));
    const key = (inside, text) => h("span", {}, h("span", { class: "key" }, inside && s("svg", { viewBox: "0 0 14 14", "aria-hidden": "true" }, inside)), text);
    this.scale.replaceChildren(
      h("span", {}, (this.beyond[0] ? "≤ " : "") + format(low, 3), bar, (this.beyond[1] ? "≥ " : "") + format(high, 3)), h("span", {}, what + (scale === "log" ? ", logarithmic" : "")),
      any((row, column) => odd && odd(row, column) || Number.isNaN(value(row, column))) ? key(s("path", { class: "cross", d: "M3 3l8 8m0-8l-8 8" }), "NaN or infinity") : "",
      any(outlier) ? key(s("circle", { class: "ring", cx: 7, cy: 7, r: 4 }), `outlier of its ${this.options.ofWhat || "round"}`) : "",
      any((row, column) => value(row, column) === null) ? key(null, "not there") : "",
    );
  }
  key(event) {
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const [down, right] = steps[event.key], { rows, columns } = this.options;
    const clamp = (value, most) => Math.min(Math.max(value, 0), most - 1);
    this.move(this.at ? [clamp(this.at[0] + down, rows.length), clamp(this.at[1] + right, columns.length)] : [0, 0]);
    const y = this.at[0] * CELL.height;
    if (y < this.box.scrollTop || y + CELL.height + CELL.axis > this.box.scrollTop + this.box.clientHeight) this.box.scrollTop = y - CELL.height;
  }
  point(event) {
    const box = this.canvas.getBoundingClientRect(), { rows, columns } = this.options;
    const row = Math.floor((event.clientY - box.top) / CELL.height), column = Math.floor((event.clientX - box.left - this.left) / this.cell);
    this.move(row >= 0 && row < rows.length && column >= 0 && column < columns.length ? [row, column] : null);
  }
  move(at) {
    this.at = at;
    if (this.frame) this.frame.remove();
    if (!at) { this.readout.replaceChildren("Point at a cell, or use the arrow keys."); return; }
    const { rows, columns, value, odd, outlier, ofWhat } = this.options, [row, column] = at;
    const told = [h("b", {}, foreign(rows[row])), ", ", ofWhat ? foreign(columns[column]) : `round ${columns[column]}`, ": ", h("b", {}, format(value(row, column)))];
    if (odd && odd(row, column)) told.push(`, ${plural(odd(row, column), "element")} NaN or infinite`);
    if (outlier && outlier(row, column)) told.push(`, outlier of its ${ofWhat || "round"}`);
    this.readout.replaceChildren(...told);
    this.frame = h("div", { "aria-hidden": "true" });
    Object.assign(this.frame.style, {
      position: "absolute", pointerEvents: "none", left: this.left + column * this.cell - 2 + "px", top: row * CELL.height + CELL.axis - 2 + "px",
      width: this.cell + 3 + "px", height: CELL.height + 3 + "px", border: "2px solid var(--text)", borderRadius: "3px",
    });
    this.box.append(this.frame);
  }
  asTable() {
    const { rows, columns, value, head } = this.options;
    return tableOf([head, ...columns.map(String)], rows.map((name, row) => [name, ...columns.map((_, column) => value(row, column))]));
  }
}

function layersSection() {
  let mode = "change";
  const current = () => data.runs[chosenRun].layers;
  const norms = data.runs.map((run) => run.layers && run.layers.norms.map((row) => row.map(numeric)));
  const options = () => {
    const layers = current(), rows = norms[chosenRun];
    if (!layers) return null;
    const firsts = rows.map((row) => row.find((value) => isFinite_(value) && value > 0));
    const change = (row, column) => { const value = rows[row][column]; return isFinite_(value) && firsts[row] ? value / firsts[row] : value === undefined ? null : value; };
    return {
      rows: layers.names, columns: layers.rounds, head: "layer", odd: (row, column) => layers.odd[row][column],
      ...(mode === "change"
        ? { value: change, scale: "ratio", what: "norm of each layer, relative to its first", label: "Norm of each layer by round, relative to its first" }
        : { value: (row, column) => rows[row][column], scale: "log", what: "norm of each layer", label: "Norm of each layer by round" }),
    };
  };
  return heatSection(options, () => {
    const layers = current();
    return layers ? `L2 norm of the finite elements of the global model${layers.total > layers.rounds.length ? `; ${layers.rounds.length} of ${layers.total} rounds` : ""}.` : "";
  }, [["Show", () => [["change", "relative to the first"], ["norm", "norm"]], (value) => { mode = value; }]]);
}

function driftSection() {
  let measure = 0;
  const current = () => data.runs[chosenRun].drift;
  const options = () => {
    const drift = current();
    if (!drift) return null;
    const found = drift.measures[Math.min(measure, drift.measures.length - 1)];
    const rows = found.rows.map((row) => row.map(numeric)), far = new Set(found.outliers.map(([row, column]) => `${row} ${column}`));
    return {
      rows: drift.clients, columns: drift.rounds, head: "client", label: `${found.label} by client and round`, what: found.label.toLowerCase().replace("nan", "NaN"),
      value: (row, column) => rows[row][column], odd: (row, column) => drift.odd[row][column], outlier: (row, column) => far.has(`${row} ${column}`),
      scale: found.key === "cosine" ? "cosine" : found.key === "odd" ? "linear" : "log",
    };
  };
  return heatSection(options, () => {
    const drift = current();
    if (!drift) return "";
    const some = drift.total > drift.clients.length ? ` ${drift.clients.length} of ${drift.total} clients.` : "";
    const without = drift.baseless.length ? ` No update in ${drift.baseless.length === 1 ? `round ${drift.baseless[0]}` : plural(drift.baseless.length, "round")}: the round before is not kept.` : "";
    return `An update is what a client sent less the global model that it started from.${without}${some}`;
  }, [["Show", () => (current() || { measures: [] }).measures.map((one, place) => [String(place), one.label]), (value) => { measure = Number(value); }]]);
}

// layers of one round: the newest is shown first
function layerDriftSection() {
  let measure = "relative", round = null;
  const current = () => data.runs[chosenRun].layer_drift;
  const place = () => Math.max(current().rounds.includes(round) ? current().rounds.indexOf(round) : current().rounds.length - 1, 0);
  const labels = [["relative", "Size of the update, relative to the layer"], ["cosine", "Cosine with the step of the layer"], ["update", "Size of the update"]];
  const options = () => {
    const drift = current();
    if (!drift) return null;
    const one = drift.of[place()], rows = one[measure].rows.map((row) => row.map(numeric)), text = labels.find(([key]) => key === measure)[1];
    const far = new Set(one[measure].outliers.map((at) => at.join(" "))), odd = new Map(one.odd.map(([row, column, count]) => [`${row} ${column}`, count]));
    return {
      rows: one.names, columns: drift.clients, head: "layer", label: `${text} by layer and client in round ${drift.rounds[place()]}`, what: text.toLowerCase(), ofWhat: "layer",
      value: (row, column) => rows[row][column], odd: (row, column) => odd.get(`${row} ${column}`), outlier: (row, column) => far.has(`${row} ${column}`),
      scale: measure === "cosine" ? "cosine" : "log",
    };
  };
  return heatSection(options, () => {
    const drift = current();
    if (!drift) return "";
    return `What each client did to each layer of the global model that it started from.${drift.rounds.length < drift.total ? ` ${drift.rounds.length} of ${drift.total} rounds.` : ""}`;
  }, [
    ["Round", () => (current() || { rounds: [] }).rounds.toReversed().map((one) => [String(one), String(one)]), (value) => { round = Number(value); }],
    ["Show", () => labels, (value) => { measure = value; }],
  ]);
}

// choosers: label, choices() and choose(value) of each
function heatSection(options, lead, choosers) {
  let heat = null;
  const text = h("p", { class: "lead" }), holder = h("div"), boxes = choosers.map(() => h("span"));
  const paint = () => {
    const found = options();
    text.textContent = lead();
    if (!found) { holder.replaceChildren(h("p", { class: "card muted" }, "This run has none.")); heat = null; return; }
    if (!heat) { heat = new Heatmap(found); holder.replaceChildren(heat.node); heat.paint(); } else heat.set(found);
  };
  const fill = () => choosers.forEach(([label, choices, choose], place) => {
    const old = boxes[place].querySelector("select"), listed = choices(), kept = old && listed.some(([key]) => key === old.value) ? old.value : undefined;
    boxes[place].replaceChildren(select(label, listed, (value) => { choose(value); paint(); }, kept));
  });
  fill();
  switches.push(() => { fill(); paint(); });
  return { controls: boxes, node: h("div", {}, text, holder), paint };
}

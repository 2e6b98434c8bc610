// The page: its head, its sections, what changes with the theme, and printing.

function overview() {
  const kinds = { damage: "Damage", odd: "NaN, ∞", note: "Outlier" };
  return h("div", { class: "runs" }, data.runs.map((run, place) => h("div", { class: "card" },
    h("h3", {}, h("span", { class: `swatch run${place}`, "aria-hidden": "true" }), foreign(run.name)),
    h("p", { class: "muted small mono" }, foreign(run.path)),
    h("dl", { class: "facts" }, run.facts.map(([label, text]) => h("div", {}, h("dt", {}, label), h("dd", {}, foreign(text))))),
    run.findings.length
      ? h("ul", { class: "findings" }, run.findings.map(([level, section, text]) => h("li", { class: level }, h("span", { class: "kind" }, kinds[level]),
        h("span", {}, section === "overview" ? foreign(text) : h("a", { href: `#${section}`, onclick: () => chooseRun(place) }, foreign(text))))))
      : h("p", { class: "muted small" }, "Nothing damaged, no NaN or infinity, no outlier."))));
}

function differences() {
  return h("div", { class: "stack" }, data.differences.map((one, number) => {
    const most = one.rows.reduce((found, row) => Math.max(found, isFinite_(row[6]) ? row[6] : 0), 0);
    const relative = (value) => s("svg", { width: 64, height: 10, "aria-hidden": "true" }, s("rect", { class: "f0", width: Math.max(isFinite_(value) && most ? value / most * 64 : value === "inf" ? 64 : 0, 1), height: 10, rx: 2 }));
    const head = ["array", "differs in", "elements that differ", "largest difference", "norm of difference", "relative", "", "cosine"];
    const rows = one.rows.map(([name, differs, elements, different, largest, norm, share, cosine]) => h("tr", {},
      h("td", { class: "name" }, foreign(name)), h("td", {}, foreign(differs)),
      h("td", { class: "number" }, elements === null ? "–" : `${grouped(different)} of ${grouped(elements)}`),
      [largest, norm, share].map((value) => h("td", { class: "number" }, format(value))), h("td", { class: "bar-cell" }, share === null ? "" : relative(share)), h("td", { class: "number" }, format(cosine))));
    const [first, second] = one.only_total, listed = (side, count, name) => count ? [h("p", { class: "small" }, `${plural(count, "array")} only in `, foreign(name), ": ",
      one.only.filter(([which]) => which === side).slice(0, 12).flatMap(([, key], place) => [place ? ", " : "", foreign(key, { class: "mono" })]), count > 12 ? ` and ${grouped(count - 12)} more` : "")] : [];
    const title = [data.runs.length > 1 && one.run ? [foreign(one.run), ": "] : "", foreign(one.first), " → ", foreign(one.second)].flat();
    const details = h("details", {}, h("summary", {}, `${plural(one.changed, "array")} changed`), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Arrays that changed, ${one.run}, ${one.first} to ${one.second}` },
      h("table", { class: "full" }, h("thead", {}, h("tr", {}, head.map((text, place) => h("th", { scope: "col", class: place > 1 && place !== 6 ? "number" : null }, text || h("span", { class: "hidden" }, "relative as a bar"))))), h("tbody", {}, rows))));
    details.open = number === 0;
    const values = one.values.length ? h("details", {}, h("summary", {}, `${one.values_total} changed`), h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Values that changed, ${one.run}, ${one.first} to ${one.second}` },
      h("table", { class: "full" }, h("thead", {}, h("tr", {}, ["value", "first", "second"].map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, one.values.map((row) => h("tr", {}, row.map((cell) => h("td", { class: "name" }, foreign(cell))))))))) : "";
    return h("div", { class: "card" }, h("h3", {}, title), h("p", { class: "lead" }, `${plural(one.same, "array")} equal, ${grouped(one.changed)} changed`, first + second ? `, ${grouped(first)} only in the first, ${grouped(second)} only in the second` : "", one.changed > one.rows.length ? `; the ${one.rows.length} that changed most` : ""),
      listed("first", first, one.first), listed("second", second, one.second), one.changed ? details : "", values);
  }));
}

function valuesSection() {
  let query = "";
  const body = h("tbody"), none = h("p", { class: "muted small", role: "status" });
  const paint = () => {
    const found = data.runs[chosenRun].values, rows = found ? found.rows.filter((row) => row.join(" ").toLowerCase().includes(query)) : [];
    body.replaceChildren(...rows.map(([kind, record, key, text]) => h("tr", {}, h("td", { class: "muted" }, kind), h("td", { class: "name" }, foreign(record)), h("td", { class: "name" }, foreign(key)), h("td", { class: "value" }, foreign(text)))));
    none.textContent = !found ? "None." : rows.length < found.total ? `${rows.length} of ${found.total} values` : plural(found.total, "value");
  };
  switches.push(paint);
  const search = h("input", { type: "search", placeholder: "Filter", "aria-label": "Filter metrics and configs", oninput: () => { query = search.value.toLowerCase(); paint(); } });
  return { controls: [search], paint, node: h("div", {}, h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Table of metrics and configs" },
    h("table", { class: "full" }, h("thead", {}, h("tr", {}, ["kind", "record", "key", "value"].map((text) => h("th", { scope: "col" }, text)))), body)), none) };
}

const has = (test) => data.runs.some(test);
const SECTIONS = [
  ["overview", "Overview", true, () => ({ controls: [], node: overview(), shared: true })],
  ["curves", "Learning curves", data.metrics.length > 0, () => ({ ...curvesSection(), shared: true })],
  ["layers", "Layers by round", has((run) => run.layers), layersSection],
  ["clients", "Clients by round", has((run) => run.drift), driftSection],
  ["drift", "Layers by client", has((run) => run.layer_drift), layerDriftSection],
  ["arrays", "Arrays", has((run) => run.arrays), arraysSection],
  ["differences", "Differences", data.differences.length > 0, () => ({ controls: [], node: differences(), shared: true })],
  ["values", "Metrics and configs", has((run) => run.values), valuesSection],
].filter(([, , there]) => there);

function notes() {
  return h("footer", { class: "wide small" }, h("p", { class: "muted" }, `Made by fedarchive on ${data.made}. This file is all there is: it fetches nothing.`), h("dl", {}, [
    ["norm", "L2 norm: the root of the sum of the squares of the elements that are finite."],
    ["update", "What a client sent less the global model of the round before."],
    ["cosine", "Of the angle of a client's update and the step of the global model in the round: 1 the same direction, 0 no relation, −1 the opposite."],
    ["outlier", "More than 3.5 scaled median absolute deviations from the median of the clients of its round."],
    ["histogram", "24 steps of equal width from the smallest to the largest finite element, heights relative to the fullest."],
  ].map(([term, text]) => [h("dt", {}, term), h("dd", {}, text)])));
}

function themeButton() {
  const root = document.documentElement, next = { "": "light", light: "dark", dark: "" };
  const button = h("button", { type: "button", onclick: () => {
    const theme = next[root.dataset.theme || ""];
    if (theme) root.dataset.theme = theme; else delete root.dataset.theme;
    tell();
    paintAll();
  } });
  const tell = () => { button.textContent = `Theme: ${root.dataset.theme || "auto"}`; };
  tell();
  return button;
}

function start() {
  const links = SECTIONS.map(([id, title]) => h("a", { href: `#${id}` }, title));
  const printers = [], tables = [];
  const main = h("main", { class: "wide", id: "main", tabindex: "-1" });
  document.body.append(
    h("a", { class: "skip", href: "#main" }, "Skip to content"),
    h("header", { class: "top wide" }, h("div", {}, h("h1", {}, foreign(data.title)), h("p", { class: "muted small" }, `fedarchive report, ${data.made}`)), themeButton()),
    h("nav", { "aria-label": "Sections" }, h("div", { class: "wide" }, links)), main, notes(), probe);
  for (const [id, title, , make] of SECTIONS) {
    const made = make();
    main.append(h("section", { id, "aria-labelledby": `${id}-title` }, h("div", { class: "head" }, h("h2", { id: `${id}-title` }, title), made.shared ? null : runSegments(), made.controls), made.node));
    if (made.paint) painted(made.paint);
    if (made.print) printers.push(made.print);
  }
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) links.forEach((link) => { if (link.getAttribute("href") === `#${entry.target.id}`) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current"); });
  }, { rootMargin: "-20% 0px -70% 0px" });
  main.querySelectorAll("section").forEach((section) => seen.observe(section));
  let width = main.clientWidth, waiting = 0;
  new ResizeObserver(() => {
    if (main.clientWidth === width) return;
    width = main.clientWidth;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(paintAll);
  }).observe(main);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paintAll);
  // on paper everything is open, and light
  let before = null;
  addEventListener("beforeprint", () => {
    if (before) return;
    const closed = [...document.querySelectorAll("details:not([open])")];
    before = { theme: document.documentElement.dataset.theme, closed };
    document.documentElement.dataset.theme = "light";
    for (const details of closed) { if (details.fill) details.fill(); details.open = true; }
    printers.forEach((print) => print());
    paintAll();
  });
  addEventListener("afterprint", () => {
    if (!before) return;
    if (before.theme) document.documentElement.dataset.theme = before.theme; else delete document.documentElement.dataset.theme;
    for (const details of before.closed) details.open = false;
    before = null;
    paintAll();
  });
}
start();

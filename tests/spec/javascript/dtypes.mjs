// Element types (section 8.1) and .npy headers (section 8.5). Everything here throws SyntaxError for what it
// cannot parse; the reader makes it Hostile [DTYPE-3].

const MAX_DESCRIPTION = 131072; // [DTYPE-10]
const MAX_NESTING = 32; // [DTYPE-13]
const MAX_BYTES = 2n ** 31n - 1n; // of a type
const MAX_FACTOR = 2n ** 31n - 1n;
const ML_BYTES = 1; // size of every machine-learning type but bfloat16
const ML_NAMES = new Set(
  ("bfloat16 float4_e2m1fn float6_e2m3fn float6_e3m2fn float8_e3m4 float8_e4m3 float8_e4m3b11fnuz float8_e4m3fn " +
    "float8_e4m3fnuz float8_e5m2 float8_e5m2fnuz float8_e8m0fnu int1 int2 int4 uint1 uint2 uint4").split(" "),
);
const COUNT = "(0|[1-9][0-9]{0,18})";
const LEAVES = [
  // [DTYPE-1]: pattern, bytes for each n (or bytes)
  [/^\|b1$/, 1n],
  [/^\|[iu](1)$/, 1n],
  [/^[<>][iu]([248])$/, 1n],
  [/^[<>]f([248])$/, 1n],
  [/^<f(16)$/, 1n],
  [/^[<>]c(8|16)$/, 1n],
  [/^<c(32)$/, 1n],
  [new RegExp(`^\\|[SV]${COUNT}$`), 1n],
  [new RegExp(`^[<>]U${COUNT}$`), 4n],
];
const TIME = /^[<>][Mm]8(?:\[([2-9]|[1-9][0-9]{1,9})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?$/;

class Text {
  constructor(raw, value) {
    this.raw = raw; // as it is spelled, quotes included
    this.value = value;
  }
}

class Tuple {
  constructor(items) {
    this.items = items;
  }
}

const fail = (why) => {
  throw new SyntaxError(why);
};

// ---- Python literals: strings, integers, True, False, tuples, lists, dictionaries

const ESCAPES = { a: 7, b: 8, f: 12, n: 10, r: 13, t: 9, v: 11 };

function unescape(body) {
  return body.replace(
    /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{1,3})|([abfnrtv])|(['"\\])|([^]))/g,
    (_, x, u, U, octal, control, self) => {
      const hex = x ?? u ?? U;
      if (hex !== undefined && parseInt(hex, 16) > 0x10ffff) fail("an escape above 10FFFF");
      if (hex !== undefined) return String.fromCodePoint(parseInt(hex, 16));
      if (octal !== undefined) return String.fromCodePoint(parseInt(octal, 8));
      if (control !== undefined) return String.fromCodePoint(ESCAPES[control]);
      return self ?? fail("an unknown escape");
    },
  );
}

function parseLiteral(text) {
  let at = 0;
  const match = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at += found[0].length;
    return found;
  };
  const take = (pattern) => {
    match(/[ \t\n\r\f]*/y);
    return match(pattern);
  };
  const items = (close, depth, one) => {
    const list = [];
    let comma = true;
    while (!take(close)) {
      if (!comma) fail(`no comma at character ${at}`);
      list.push(one(depth + 1));
      comma = take(/,/y) !== null;
    }
    return [list, comma];
  };
  const value = (depth) => {
    if (depth > 2 * MAX_NESTING + 2) fail("too deep"); // a list and a tuple each level, and a shape
    let found = take(/u?('(?:[^'\\\n]|\\[^\n])*'|"(?:[^"\\\n]|\\[^\n])*")/y);
    if (found) return new Text(found[0], unescape(found[1].slice(1, -1)));
    found = take(/(-?(?:0+|[1-9][0-9]*))L?(?![0-9A-Za-z_])/y);
    if (found) return BigInt(found[1]);
    found = take(/True|False/y);
    if (found) return found[0] === "True";
    if (take(/\[/y)) return items(/\]/y, depth, value)[0];
    if (take(/\(/y)) {
      const [list, comma] = items(/\)/y, depth, value);
      return list.length === 1 && !comma ? list[0] : new Tuple(list);
    }
    if (take(/\{/y)) {
      const pairs = new Map();
      items(/\}/y, depth, () => {
        const key = value(depth + 1);
        if (!(key instanceof Text) || pairs.has(key.value) || !take(/:/y)) fail("no legal dictionary");
        pairs.set(key.value, value(depth + 1));
      });
      return pairs;
    }
    return fail(`no literal at character ${at}`);
  };
  const result = value(0);
  if (!take(/$/y)) fail(`something behind the literal at character ${at}`);
  return result;
}

const PLAIN = new RegExp(
  "^(?:[^\\\\\u0000-\u001f\u007f]|\\\\(?:[\\\\'nrt]|" +
    "x(?!09|0a|0d)(?:[018-9a-f][0-9a-f]|7f)|u(?!00)[0-9a-f]{4}|U(?!0000)[0-9a-f]{8}))*$",
);

/** How section 8.1 spells a literal: characters from 80 on are escaped or not, by the shortest escape. */
function spell(node) {
  if (node instanceof Text) {
    if (!PLAIN.test(node.raw)) fail("another escape");
    const quote = node.value.includes("'") && !node.value.includes('"') ? '"' : "'";
    return node.raw[0] === quote ? node.raw : fail("another quote");
  }
  if (node instanceof Tuple) return `(${node.items.map(spell).join(", ")}${node.items.length === 1 ? "," : ""})`;
  return Array.isArray(node) ? `[${node.map(spell).join(", ")}]` : String(node);
}

// ---- element types

function leaf(text) {
  const time = TIME.exec(text);
  if (time && BigInt(time[1] ?? 1) <= MAX_FACTOR) return { size: 8n, same: text };
  for (const [pattern, unit] of LEAVES) {
    const found = pattern.exec(text);
    const size = found && BigInt(found[1] ?? 1) * unit;
    if (found && size <= MAX_BYTES) return { size, same: text };
  }
  return fail(`no element type ${text.slice(0, 80)}`);
}

/** A member: its parts, the size, and `same`: a text that equal types share (titles are no part of it). */
function member(node, leafOf, level) {
  if (!(node instanceof Tuple) || node.items.length < 2 || node.items.length > 3) fail("no member");
  let [name, type, shape] = node.items;
  if (name instanceof Tuple) {
    if (name.items.length !== 2 || !(name.items[0] instanceof Text)) fail("no title");
    name = name.items[1];
  }
  if (!(name instanceof Text)) fail("no name");
  const inner = typeOf(type, leafOf, level + 1);
  let count = 1n;
  if (node.items.length === 3) {
    if (!(shape instanceof Tuple) || !shape.items.every((n) => typeof n === "bigint" && n >= 0n)) fail("no shape");
    if (shape.items.length === 0) fail("a subarray without axes");
    count = shape.items.reduce((product, n) => product * n, 1n);
  }
  const axes = node.items.length === 3 ? shape.items.map(String) : null;
  const padding = name.value === "" && axes === null && type instanceof Text && /^\|?V/.test(type.value);
  if (padding && (inner.size === 0n || node.items[0] instanceof Tuple)) fail("no padding");
  const names = node.items[0] instanceof Tuple ? node.items[0].items.map((text) => text.value) : [name.value];
  return { size: inner.size * count, same: [name.value, inner.same, axes], padding, names: padding ? [] : names };
}

function typeOf(node, leafOf, level = 1) {
  if (node instanceof Text) return leafOf(node.value); // [DTYPE-2]: machine-learning types are no leaves
  if (!Array.isArray(node)) fail("no element type");
  if (level > MAX_NESTING) fail("too deep"); // [DTYPE-13]
  const members = node.map((item) => member(item, leafOf, level));
  const names = members.flatMap((one) => one.names);
  if (new Set(names).size !== names.length) fail("two members of one name");
  if (members.some((one, i) => i > 0 && one.padding && members[i - 1].padding)) fail("padding in two pieces");
  const size = members.reduce((sum, one) => sum + one.size, 0n);
  if (size > MAX_BYTES) fail("too large");
  return { size, same: members.map(({ same }) => same) };
}

/** The element type that a description spells: `size` in bytes (BigInt), `ml`, `unicode`, `big`, `same`. */
export function parseDescription(text) {
  if (text.length > MAX_DESCRIPTION && [...text].length > MAX_DESCRIPTION) fail("too long"); // [DTYPE-10]
  if (ML_NAMES.has(text)) {
    const size = text === "bfloat16" ? 2 : ML_BYTES;
    return { size: BigInt(size), ml: true, unicode: false, big: false, same: `|V${size}` };
  }
  if (!text.startsWith("[")) {
    return { ...leaf(text), ml: false, unicode: /^[<>]U/.test(text), big: text[0] === ">" };
  }
  const node = parseLiteral(text);
  const type = typeOf(node, leaf);
  if (spell(node) !== text) fail("a structured type in another spelling"); // "one spelling of each type"
  return { ...type, ml: false, unicode: false, big: false };
}

// ---- .npy headers

const NPY_MAGIC = Buffer.from("934e554d5059", "hex");
const ROOM = 21;
const NPY_ALIGN = 64;

function npyPrefix(version, length) {
  const prefix = Buffer.alloc(version === 1 ? 10 : 12);
  NPY_MAGIC.copy(prefix);
  prefix[6] = version;
  if (version === 1) prefix.writeUInt16LE(length, 8);
  else prefix.writeUInt32LE(length, 8);
  return prefix;
}

/** The canonical header (section 8.5) of elements of a description, a shape (BigInts) and an order. */
export function canonicalHeader(description, shape, fortran) {
  const type = parseDescription(description);
  const descr = type.ml ? `'<V${type.size}'` : description.startsWith("[") ? description : `'${description}'`;
  const axes = shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`;
  let text = `{'descr': ${descr}, 'fortran_order': ${fortran ? "True" : "False"}, 'shape': ${axes}, }`;
  if (shape.length > 0) text += " ".repeat(ROOM - String(fortran ? shape.at(-1) : shape[0]).length);
  const latin1 = /^[\u0000-\u00ff]*$/.test(text);
  const bytes = Buffer.from(text, latin1 ? "latin1" : "utf8");
  for (const version of latin1 ? [1, 2] : [3]) {
    const before = (version === 1 ? 10 : 12) + bytes.length;
    const padding = NPY_ALIGN - ((before + 1) % NPY_ALIGN);
    const length = bytes.length + padding + 1;
    if (version === 1 && length >= 65536) continue;
    return Buffer.concat([npyPrefix(version, length), bytes, Buffer.from(`${" ".repeat(padding)}\n`)]);
  }
  return undefined;
}

/** Throws unless the bytes are the header of a .npy of this element type, shape and order [DTYPE-12]. */
export function checkHeader(header, type, shape, fortran, bothOrders) {
  if (header.length < 12 || !header.subarray(0, 6).equals(NPY_MAGIC)) fail("no .npy");
  const [version, minor] = [header[6], header[7]];
  if (version < 1 || version > 3 || minor !== 0) fail("no version of .npy");
  const at = version === 1 ? 10 : 12;
  const length = version === 1 ? header.readUInt16LE(8) : header.readUInt32LE(8);
  if (at + length !== header.length) fail("a header of another length");
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const text = version === 3 ? decoder.decode(header.subarray(at)) : header.latin1Slice(at);
  const node = parseLiteral(text);
  if (!(node instanceof Map) || node.size !== 3) fail("no dictionary of three");
  const [descr, order, axes] = ["descr", "fortran_order", "shape"].map((name) => node.get(name));
  if (typeof order !== "boolean" || (order !== fortran && !bothOrders)) fail("another order");
  if (!(axes instanceof Tuple) || axes.items.length !== shape.length) fail("another shape");
  if (!axes.items.every((n, i) => n === shape[i])) fail("another shape");
  // A header may leave out the byte order or spell one where there is none.
  const loose = (spelled) => {
    const bare = spelled.replace(/^[<>=|]/, "");
    if (/^(b1|[iu]1|[SV][0-9]+)$/.test(bare)) return leaf(`|${bare}`);
    return leaf(/^[<>]/.test(spelled) ? spelled : `<${bare}`);
  };
  if (JSON.stringify(typeOf(descr, loose).same) !== JSON.stringify(type.same)) fail("another element type");
}

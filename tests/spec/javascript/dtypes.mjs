// Element types (section 8.1) and .npy headers (section 8.5). Everything here throws SyntaxError for what it
// cannot parse; the reader makes it Hostile [DTYPE-3].

const MAX_DESCRIPTION = 131072; // [DTYPE-10]
const MAX_NESTING = 32; // [DTYPE-13]
const MAX_AXES = 32; // of a member [DTYPE-12]
const MAX_AXIS = 2n ** 31n - 1n;
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

const fail = (why) => {
  throw new SyntaxError(why);
};

// ---- the grammar of structures: each token stands where it has to, or nowhere

const TEXT =
  /'((?:[ -&(-[\]-~]|\\(?:[\\']|x(?:[01][0-9a-f]|7f|[89a-f][0-9a-f])|u(?!00)[0-9a-f]{4}|U(?:000[1-9a-f]|0010)[0-9a-f]{4}))*)'/y;
const SHAPE = /\((?:(?:0|[1-9][0-9]*),|(?:0|[1-9][0-9]*)(?:, (?:0|[1-9][0-9]*))+)\)/y;

class Scanner {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  match(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text) ?? fail(`another token than ${pattern} at character ${this.at}`);
    this.at += found[0].length;
    return found;
  }

  has(token) {
    const there = this.text.startsWith(token, this.at);
    if (there) this.at += token.length;
    return there;
  }

  need(token) {
    if (!this.has(token)) fail(`no ${token} at character ${this.at}`);
  }

  /** A text, as it is spelled: each text has one spelling. */
  string() {
    return this.match(TEXT)[1];
  }
}

// ---- element types

function leaf(text) {
  const time = TIME.exec(text);
  if (time && BigInt(time[1] ?? 1) <= MAX_FACTOR) return { size: 8n };
  for (const [pattern, unit] of LEAVES) {
    const found = pattern.exec(text);
    const size = found && BigInt(found[1] ?? 1) * unit;
    if (found && size <= MAX_BYTES) return { size };
  }
  return fail(`no element type ${text.slice(0, 80)}`);
}

/** A member of a structure: its size, the names that it takes, and whether it is padding. */
function member(scan, level) {
  scan.need("(");
  const titled = scan.has("(");
  const names = [scan.string()];
  if (titled) {
    scan.need(", ");
    names.push(scan.string());
    scan.need(")");
  }
  scan.need(", ");
  const plain = scan.text[scan.at] === "[" ? null : scan.string();
  const size = plain === null ? structure(scan, level + 1) : leaf(plain).size; // [DTYPE-2]: no machine-learning types
  let axes = null;
  if (scan.has(", ")) axes = scan.match(SHAPE)[0].match(/[0-9]+/g).map(BigInt);
  scan.need(")");
  if (axes !== null && (axes.length > MAX_AXES || axes.some((n) => n > MAX_AXIS))) fail("too many or too long axes");
  if (axes !== null && plain !== null && size === 0n) fail("a shape beside nothing"); // [DTYPE-12]
  const isVoid = plain !== null && plain.startsWith("|V");
  const padding = !titled && names[0] === "" && isVoid && axes === null;
  if (padding ? size === 0n : names.at(-1) === "" && (isVoid || axes !== null)) fail("no padding");
  const count = (axes ?? []).reduce((product, n) => product * n, 1n);
  return { size: size * count, padding, names: padding ? [] : names };
}

/** The bytes of a structure. */
function structure(scan, level) {
  if (level > MAX_NESTING) fail("too deep"); // [DTYPE-13]
  scan.need("[");
  const members = [];
  while (!scan.has("]")) {
    if (members.length > 0) scan.need(", ");
    members.push(member(scan, level));
  }
  const names = members.flatMap((one) => one.names);
  if (new Set(names).size !== names.length) fail("two members of one name");
  if (members.some((one, i) => i > 0 && one.padding && members[i - 1].padding)) fail("padding in two pieces");
  const size = members.reduce((sum, one) => sum + one.size, 0n);
  if (size > MAX_BYTES) fail("too large");
  return size;
}

/** The element type that a description spells: `size` in bytes (BigInt), `ml`, `unicode`, `big`. */
export function parseDescription(text) {
  if (text.length > MAX_DESCRIPTION && [...text].length > MAX_DESCRIPTION) fail("too long"); // [DTYPE-10]
  if (ML_NAMES.has(text)) {
    const size = text === "bfloat16" ? 2 : ML_BYTES;
    return { size: BigInt(size), ml: true, unicode: false, big: false };
  }
  if (!text.startsWith("[")) {
    return { ...leaf(text), ml: false, unicode: /^[<>]U/.test(text), big: text[0] === ">" };
  }
  const scan = new Scanner(text);
  const size = structure(scan, 1);
  if (scan.at < text.length) fail("something behind the structure");
  return { size, ml: false, unicode: false, big: false };
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
  const bytes = Buffer.from(text, "latin1"); // ASCII
  for (const version of [1, 2]) {
    const before = (version === 1 ? 10 : 12) + bytes.length;
    const padding = NPY_ALIGN - ((before + 1) % NPY_ALIGN);
    const length = bytes.length + padding + 1;
    if (version === 1 && length >= 65536) continue;
    return Buffer.concat([npyPrefix(version, length), bytes, Buffer.from(`${" ".repeat(padding)}\n`)]);
  }
  return undefined;
}

// A reader of fedarchive files, written from the text of spec/v1 alone. It needs node and nothing else.
// A check names the sentence of the specification that asks for it: [INDEX-7].
//
//     const archive = Archive.open("round-80.h5");
//     for (const record of archive.records()) console.log(record.name, record.rows.map((row) => row.key));
//     archive.data(archive.find("model", "fc.weight"));   // a .npy file
//
// The whole file is read into one Buffer, which node bounds to 2 GiB. Numbers of 64 bits are BigInt until a
// check has bound them to the length of the file [FILE-2].

import { readFileSync } from "node:fs";
import { canonicalHeader, parseDescription } from "./dtypes.mjs";
import { JsonNumber, parseJson, utf8 } from "./json.mjs";
import { xxh3_128, xxh3_64 } from "./xxh3.mjs";

// ---- section 2: constants

const VERSION_MAJOR = 1;
const VERSION_MINOR = 0;
const SUPERBLOCK_BYTES = 48;
const DATA_AT = 4096;
const ALIGN = 64;
const MIN_SEGMENT_BYTES = 131072;
const MAX_SEGMENT_BYTES = 4194304;
const MAX_SEGMENTS = 1024;
const DIGEST_ALGORITHM = 1; // xxh3-128
const FOOTER_BYTES = 256;
const INDEX_HEADER_BYTES = 96;
const TYPE_ROW_BYTES = 64;
const RECORD_ROW_BYTES = 32;
const DIGEST_BYTES = 16;
const NO_ALIAS = 4294967295;
const MAX_TEXT_EXPANSION = 256n;
const MAX_RANK = 64;
const MAX_ARRAYS = 4294967294n;
const MAX_RECORDS = 16777216n;
const MAX_FILE_BYTES = 4611686018427387904n;
const KINDS = ["arrays", "metrics", "configs"]; // KIND_ARRAYS, KIND_METRICS, KIND_CONFIGS
const KIND_ARRAYS = 0;
const [MODE_ELEMENTS, MODE_TEXT, MODE_DATA] = [0, 1, 2];
const FLAG_FORTRAN = 1;
const FOOTER_MAGIC = Buffer.from("934645444152430a", "hex");
const END_MAGIC = Buffer.from("0a46454441524393", "hex");
const INDEX_MAGIC = Buffer.from("934645444944580a", "hex");
const SUPERBLOCK_BEGIN = Buffer.from("894844460d0a1a0a020808", "hex"); // section 5.2: version 2, sizes 8 and 8

// Section 7.2: name, bytes of an element, the field of the header that counts it.
const SECTIONS = [
  ["offset", 8n, "arrays"],
  ["nbytes", 8n, "arrays"],
  ["key_end", 8n, "arrays"],
  ["dims_end", 8n, "arrays"],
  ["segment_at", 8n, "arrays"],
  ["name_hash", 8n, "arrays"],
  ["dims", 8n, "dims"],
  ["digests", BigInt(DIGEST_BYTES), "segments"],
  ["record", 4n, "arrays"],
  ["type", 4n, "arrays"],
  ["alias_of", 4n, "arrays"],
  ["flags", 4n, "arrays"],
  ["name_row", 4n, "arrays"],
  ["records", BigInt(RECORD_ROW_BYTES), "records"],
  ["types", BigInt(TYPE_ROW_BYTES), "types"],
  ["pool", 1n, "pool_bytes"],
];
const COUNTS = ["records", "types", "arrays", "dims", "segments", "pool_bytes"];

// ---- section 3: errors. `place` is what is known of { record, key, offset }.

export class ArchiveError extends Error {
  constructor(message, place = {}) {
    super(message);
    this.name = this.constructor.name;
    this.place = place;
  }
}
export class NotAnArchive extends ArchiveError {}
export class Truncated extends ArchiveError {}
export class Version extends ArchiveError {}
export class Damaged extends ArchiveError {}
export class Digest extends Damaged {}
export class Hostile extends ArchiveError {}

const must = (condition, message, place) => {
  if (!condition) throw new Hostile(message, place);
};

/** What `make` returns; Hostile where text is not UTF-8, not JSON or no description. */
function parsed(make, message, place) {
  try {
    return make();
  } catch (error) {
    if (error instanceof ArchiveError) throw error;
    throw new Hostile(`${message}: ${error.message}`, place);
  }
}

const isZero = (bytes) => bytes.every((byte) => byte === 0);
const align = (x, n) => ((x + n - 1n) / n) * n;

/** Bytes that a digest of an array covers, by its stored bytes alone [DIGEST-2]. */
function segmentBytes(nbytes) {
  let size = MIN_SEGMENT_BYTES;
  while (size < MAX_SEGMENT_BYTES && size * MAX_SEGMENTS < nbytes) size *= 2;
  return size;
}
const product = (shape) => shape.reduce((result, axis) => result * axis, 1n);

// ---- section 10.2: values. Payloads stay in the spelling of the JSON document, because a JavaScript number
// does not tell 1 from 1.0 and keeps no bits of a NaN. `kind` limits the types [VALUE-11].

const SINGULAR = { bools: "bool", ints: "int", floats: "float", strs: "str", bytess: "bytes" };
const METRIC_TYPES = ["int", "float", "ints", "floats", "list"];
const CONFIG_TYPES = [...METRIC_TYPES, "bool", "str", "bytes", "bools", "strs", "bytess"];
const SAFE = BigInt(Number.MAX_SAFE_INTEGER);

function spellInt(value) {
  return value >= -SAFE && value <= SAFE ? Number(value) : String(value);
}

function spellFloat(bits) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(bits);
  const value = bytes.readDoubleLE();
  if (Number.isFinite(value)) return value;
  if (!Number.isNaN(value)) return value > 0 ? "inf" : "-inf";
  return bits === 0x7ff8000000000000n ? "nan" : bits.toString(16).padStart(16, "0");
}

const READ_SCALAR = {
  bool(payload) {
    must(typeof payload === "boolean", "no bool"); // [VALUE-2]
    return payload;
  },
  int(payload) {
    const number = payload instanceof JsonNumber; // [VALUE-3]
    const text = number ? payload.text : payload;
    must(typeof text === "string" && /^-?(0|[1-9][0-9]{0,19})$/.test(text), "no int");
    const value = BigInt(text);
    must(value >= -(2n ** 63n) && value < 2n ** 64n, "an int beyond 64 bits"); // section 10.1
    must(number === (value >= -SAFE && value <= SAFE), "an int that is spelled otherwise");
    return spellInt(value);
  },
  float(payload) {
    if (payload instanceof JsonNumber) {
      const value = Number(payload.text); // [VALUE-4]
      must(Number.isFinite(value), "a float beyond 64 bits");
      return value;
    }
    if (["inf", "-inf", "nan"].includes(payload)) return payload; // [VALUE-5]
    must(typeof payload === "string" && /^[0-9a-f]{16}$/.test(payload), "no float");
    must(spellFloat(BigInt(`0x${payload}`)) === payload, "a float that is spelled otherwise");
    return payload;
  },
  str(payload) {
    must(typeof payload === "string", "no str"); // [VALUE-6]
    return payload;
  },
  bytes(payload) {
    const canonical = typeof payload === "string" && Buffer.from(payload, "base64").toString("base64");
    must(canonical === payload, "no base64"); // [VALUE-7]
    return payload;
  },
};

// ---- superblocks of HDF5 tools

/** The checksum of HDF5 metadata: Jenkins' hashlittle, of 1 byte or more. */
function lookup3(data) {
  const padded = Buffer.alloc(Math.ceil(data.length / 12) * 12);
  data.copy(padded);
  let [a, b, c] = [0, 0, 0].map(() => (0xdeadbeef + data.length) | 0);
  const turn = (word, shift) => (word << shift) | (word >>> (32 - shift));
  for (let at = 0; at < padded.length; at += 12) {
    [a, b, c] = [a, b, c].map((word, i) => (word + padded.readInt32LE(at + 4 * i)) | 0);
    if (at + 12 === padded.length) break;
    for (const shift of [4, 6, 8, 16, 19, 4]) {
      a = ((a - c) | 0) ^ turn(c, shift);
      c = (c + b) | 0;
      [a, b, c] = [b, c, a];
    }
  }
  for (const shift of [14, 11, 25, 16, 4, 14, 24]) {
    c = ((c ^ b) - turn(b, shift)) | 0;
    [a, b, c] = [b, c, a];
  }
  return b >>> 0; // c of the last step, turned
}

/** Where a superblock that an HDF5 tool wrote ends the file; null of other bytes [FOOTER-9]. */
function endOfSuperblock(head) {
  const version = head[8];
  if (!head.subarray(0, 8).equals(SUPERBLOCK_BEGIN.subarray(0, 8)) || ![0, 2, 3].includes(version)) return null;
  const [sizes, base, end] = version === 0 ? [13, 24, 40] : [9, 12, 28];
  if (head[sizes] !== 8 || head[sizes + 1] !== 8 || head.readBigUInt64LE(base) !== 0n) return null;
  if (version !== 0 && lookup3(head.subarray(0, 44)) !== head.readUInt32LE(44)) return null;
  return head.readBigUInt64LE(end);
}

// ---- the archive

export class Archive {
  #bytes; // the file
  #minor; // its minor version
  #at = {}; // where each section begins, in #bytes
  #count = {}; // COUNTS
  #types = [];
  #records = [];
  #rows = [];
  #metaAt;
  #document;

  static open(path) {
    return new Archive(readFileSync(path));
  }

  /**
   * Makes every check of [OPEN-1], in the order of section 13.1, and those of the JSON document but for the
   * payloads of values (7.6, 7.7), which may also wait until it is used; reads no array bytes.
   */
  constructor(bytes) {
    this.#bytes = bytes;
    const [indexAt, valuesAt] = this.#openFooter();
    this.#layOutIndex(indexAt, BigInt(valuesAt - indexAt));
    this.#readTypes();
    this.#readRecords();
    this.#readRows();
    this.#checkNameTable();
    this.#checkPool();
    this.#readDocument(valuesAt);
  }

  // -- section 6

  #openFooter() {
    const bytes = this.#bytes;
    const length = bytes.length;
    const begin = length - FOOTER_BYTES;
    const footer = bytes.subarray(Math.max(0, begin));
    const roomy = length >= DATA_AT + FOOTER_BYTES; // [FILE-5]
    const hasMagic = roomy && footer.subarray(0, 8).equals(FOOTER_MAGIC);
    const hasEnd = roomy && footer.subarray(248).equals(END_MAGIC);
    if (!hasMagic && !hasEnd) {
      // [FOOTER-1]
      const isHdf5 = length >= SUPERBLOCK_BYTES && bytes.subarray(0, 11).equals(SUPERBLOCK_BEGIN);
      if (isHdf5 && bytes.readBigUInt64LE(28) > BigInt(length)) throw new Truncated("the end is missing");
      throw new NotAnArchive("no footer");
    }
    const place = { offset: begin };
    if (!hasMagic || !hasEnd || !xxh3_128(footer.subarray(0, 232)).equals(footer.subarray(232, 248))) {
      throw new Damaged("the footer is damaged", place); // [FOOTER-1] before [VERSION-2]: [OPEN-2]
    }
    this.#minor = footer.readUInt32LE(12);
    if (footer.readUInt32LE(8) !== VERSION_MAJOR) throw new Version("another major version", place); // [VERSION-2]
    const [fileBytes, metaAt, metaBytes, indexAt, indexBytes, valuesAt, valuesBytes] = [
      24, 40, 48, 56, 64, 72, 80,
    ].map((at) => footer.readBigUInt64LE(at));
    const rewritten = () => endOfSuperblock(bytes.subarray(0, SUPERBLOCK_BYTES)) === BigInt(length); // [FOOTER-9]
    if (fileBytes !== BigInt(length)) {
      if (rewritten()) throw new NotAnArchive("an HDF5 tool rewrote it");
      throw new Truncated("the file has another length", place); // [FOOTER-2]
    }

    if (footer.readUInt32LE(32) !== DIGEST_ALGORITHM) throw new Version("another digest", place); // [DIGEST-1]
    // [FOOTER-3]
    const unused = [152, 184, 216].every((at) => isZero(footer.subarray(at, at + 16)));
    const reserved = footer.readUInt32LE(20) === 0 && footer.readUInt32LE(36) === 0 && unused;
    this.#known(reserved, "flags, reserved", place);
    must(footer.readUInt32LE(16) === FOOTER_BYTES, "footer_bytes", place);
    const aligned = metaAt % BigInt(ALIGN) === 0n && metaBytes % BigInt(ALIGN) === 0n;
    must(aligned && metaAt >= BigInt(DATA_AT), "meta_at, meta_bytes", place); // [FOOTER-4]
    must(metaAt + metaBytes === indexAt, "the index does not follow the metadata", place);
    must(indexBytes >= BigInt(INDEX_HEADER_BYTES), "index_bytes", place);
    must(indexAt + indexBytes === valuesAt, "the values do not follow the index", place);
    must(valuesAt + valuesBytes + BigInt(FOOTER_BYTES) === fileBytes, "the footer does not follow the values", place);
    must(fileBytes <= MAX_FILE_BYTES, "file_bytes", place); // [FILE-5]; its least length follows from the above

    const superblock = footer.subarray(88, 88 + SUPERBLOCK_BYTES);
    must(superblock.subarray(0, 11).equals(SUPERBLOCK_BEGIN), "the superblock", place); // [FOOTER-5]
    const [endOfFile, root] = [superblock.readBigUInt64LE(28), superblock.readBigUInt64LE(36)];
    must(endOfFile === fileBytes && root >= metaAt && root < indexAt, "the superblock", place);
    if (!superblock.equals(bytes.subarray(0, SUPERBLOCK_BYTES))) {
      if (rewritten()) throw new NotAnArchive("an HDF5 tool rewrote it");
      throw new Damaged("the superblock is damaged", { offset: 0 }); // [FOOTER-5]
    }
    this.#metaAt = Number(metaAt);
    const digestOf = (from, to) => xxh3_128(bytes.subarray(Number(from), Number(to)));
    if (!digestOf(metaAt, indexAt).equals(footer.subarray(136, 152))) {
      throw new Damaged("the metadata is damaged", { offset: this.#metaAt }); // [FOOTER-7]
    }
    if (!digestOf(indexAt, valuesAt).equals(footer.subarray(168, 184))) {
      throw new Damaged("the index is damaged", { offset: Number(indexAt) }); // [FOOTER-6]
    }
    if (!digestOf(valuesAt, valuesAt + valuesBytes).equals(footer.subarray(200, 216))) {
      throw new Damaged("the values are damaged", { offset: Number(valuesAt) }); // [FOOTER-8]
    }
    return [Number(indexAt), Number(valuesAt)];
  }

  /** [VERSION-4]: what this reader does not know may be of a later version. */
  #known(condition, message, place) {
    if (condition) return;
    throw this.#minor > VERSION_MINOR ? new Version(message, place) : new Hostile(message, place);
  }

  // -- sections 7.1 and 7.2

  #layOutIndex(indexAt, indexBytes) {
    const place = { offset: indexAt };
    const header = this.#bytes.subarray(indexAt, indexAt + INDEX_HEADER_BYTES);
    must(header.subarray(0, 8).equals(INDEX_MAGIC), "the magic of the index", place); // [INDEX-1]
    if (header.readUInt32LE(8) !== VERSION_MAJOR) throw new Version("another version of the index", place);
    must(header.readUInt32LE(12) === INDEX_HEADER_BYTES, "header_bytes", place);
    this.#known(isZero(header.subarray(64)), "reserved", place);
    const count = Object.fromEntries(COUNTS.map((name, i) => [name, header.readBigUInt64LE(16 + 8 * i)]));
    must(count.arrays <= MAX_ARRAYS && count.records <= MAX_RECORDS, "arrays, records", place); // [INDEX-4]

    let end = BigInt(INDEX_HEADER_BYTES);
    const laid = SECTIONS.map(([name, size, counted]) => {
      const from = end;
      const used = from + size * count[counted];
      end = align(used, 8n);
      return [name, from, used, end];
    });
    must(end === indexBytes, "the sections do not fill the index", place); // [INDEX-3]
    for (const [name, from, used, to] of laid) {
      this.#at[name] = indexAt + Number(from);
      const padding = this.#bytes.subarray(indexAt + Number(used), indexAt + Number(to));
      must(isZero(padding), `padding behind ${name}`, { offset: indexAt + Number(used) }); // [INDEX-5]
    }
    for (const name of COUNTS) this.#count[name] = Number(count[name]); // each is below the length of the file
  }

  #u32(section, i) {
    return this.#bytes.readUInt32LE(this.#at[section] + 4 * i);
  }

  #u64(section, i) {
    return this.#bytes.readBigUInt64LE(this.#at[section] + 8 * i);
  }

  #pool(at, length) {
    must(BigInt(at) + BigInt(length) <= BigInt(this.#count.pool_bytes), "a string beyond the pool"); // [INDEX-17]
    const begin = this.#at.pool + Number(at);
    return this.#bytes.subarray(begin, begin + length);
  }

  #text(bytes, place) {
    return parsed(() => utf8(bytes), "text that is not UTF-8", place); // [INDEX-17]
  }

  // -- section 7.4

  #readTypes() {
    for (let i = 0; i < this.#count.types; i += 1) {
      const at = this.#at.types + TYPE_ROW_BYTES * i;
      const place = { offset: at };
      const strings = [0, 1, 2, 3].map((n) =>
        this.#pool(this.#bytes.readBigUInt64LE(at + 8 * n), this.#bytes.readUInt32LE(at + 32 + 4 * n)),
      );
      const itemsize = this.#bytes.readBigUInt64LE(at + 48);
      const mode = this.#bytes.readUInt32LE(at + 56);
      this.#known(mode <= MODE_DATA, "an unknown mode", place); // [INDEX-15], [VERSION-4]
      this.#known(this.#bytes.readUInt32LE(at + 60) === 0, "reserved", place);
      const [dtype, stype, description] = strings.slice(0, 3).map((bytes) => this.#text(bytes, place));
      const type = { dtype, stype, description, npyHeader: strings[3], itemsize, mode, strings };
      if (mode === MODE_DATA) {
        must(itemsize === 1n && strings[3].length === 0, "a type row of mode DATA", place); // [INDEX-16]
      } else {
        const element = this.#element(description, place); // [DTYPE-1] to [DTYPE-3]
        if (mode === MODE_ELEMENTS) must(itemsize === element.size, "itemsize", place); // [INDEX-16]
        else {
          must(element.unicode && itemsize >= 1n, "a type row of mode TEXT", place); // [INDEX-16]
          must(element.size >= itemsize && element.size <= MAX_TEXT_EXPANSION * itemsize, "itemsize", place);
        }
        type.element = element;
      }
      this.#types.push(type);
    }
  }

  #element(description, place) {
    try {
      return parseDescription(description);
    } catch (error) {
      return this.#known(false, `a description: ${error.message}`, place); // section 14: a later minor may have more
    }
  }

  // -- section 7.3

  #readRecords() {
    for (let i = 0; i < this.#count.records; i += 1) {
      const at = this.#at.records + RECORD_ROW_BYTES * i;
      const place = { offset: at };
      const name = this.#pool(this.#bytes.readBigUInt64LE(at), this.#bytes.readUInt32LE(at + 8));
      const kind = this.#bytes.readUInt32LE(at + 12);
      this.#known(kind < KINDS.length, "an unknown kind", place); // [INDEX-15], [VERSION-4]
      this.#known(isZero(this.#bytes.subarray(at + 24, at + 32)), "reserved", place);
      const arrays = this.#bytes.readBigUInt64LE(at + 16);
      this.#records.push({ index: i, name: this.#text(name, place), nameBytes: name, kind, arrays, rows: [] });
    }
  }

  // -- section 7.2, the rows; sections 4 and 12

  #readRows() {
    let [keyAt, dimsAt, segments, end] = [0n, 0n, 0n, BigInt(DATA_AT)];
    for (let i = 0; i < this.#count.arrays; i += 1) {
      const keyEnd = this.#u64("key_end", i);
      const dimsEnd = this.#u64("dims_end", i);
      must(keyEnd >= keyAt && keyEnd <= BigInt(this.#count.pool_bytes), "key_end"); // [INDEX-6]
      must(dimsEnd >= dimsAt && dimsEnd <= BigInt(this.#count.dims), "dims_end");
      must(dimsEnd - dimsAt <= BigInt(MAX_RANK), "too many axes");
      const keyBytes = this.#pool(keyAt, Number(keyEnd - keyAt));
      const typeNumber = this.#u32("type", i);
      const recordNumber = this.#u32("record", i);
      must(typeNumber < this.#types.length && recordNumber < this.#records.length, "type, record"); // [INDEX-7]
      const [type, record] = [this.#types[typeNumber], this.#records[recordNumber]];
      const key = this.#text(keyBytes, { record: record.name });
      const place = { record: record.name, key };
      const flags = this.#u32("flags", i);
      this.#known(flags === 0 || flags === FLAG_FORTRAN, "flags", place); // [INDEX-7], [VERSION-4]
      const shape = [];
      for (let n = dimsAt; n < dimsEnd; n += 1n) shape.push(this.#u64("dims", Number(n)));
      const ordered = type.mode !== MODE_DATA && shape.filter((axis) => axis > 1n).length >= 2;
      must(flags === 0 || ordered, "an order that means nothing", place); // [DTYPE-8]

      const nbytes = this.#u64("nbytes", i);
      if (type.mode !== MODE_DATA) must(nbytes === product(shape) * type.itemsize, "nbytes", place); // [INDEX-8]
      const widest = type.mode === MODE_TEXT ? MAX_TEXT_EXPANSION * type.itemsize : type.itemsize;
      const extent = widest * product(shape.filter((axis) => axis !== 0n));
      must(extent <= MAX_FILE_BYTES, "a shape beyond all files", place); // [INDEX-8]

      const offset = this.#u64("offset", i);
      const segmentAt = this.#u64("segment_at", i);
      const aliasOf = this.#u32("alias_of", i);
      if (aliasOf !== NO_ALIAS) {
        must(aliasOf < i && this.#rows[aliasOf].aliasOf === NO_ALIAS, "alias_of", place); // [TIE-1]
        const target = this.#rows[aliasOf];
        const itsPlace = [target.offset, target.nbytes, target.segmentAt].map(BigInt);
        const same = [offset, nbytes, segmentAt].every((number, k) => number === itsPlace[k]);
        const alike = type === target.type && flags === target.flags && String(shape) === String(target.shape);
        must(same && alike, "an alias that differs from its target", place); // [TIE-2], [INDEX-12]
        const arrays = record.kind === KIND_ARRAYS && target.record.kind === KIND_ARRAYS;
        must(nbytes > 0n && arrays, "an alias without bytes or of a value", place); // [TIE-4]
      } else {
        must(segmentAt === segments, "segment_at", place); // [INDEX-12]
        const size = BigInt(segmentBytes(Number(nbytes)));
        segments += (nbytes + size - 1n) / size;
        if (nbytes === 0n) must(offset === 0n, "an offset without bytes", place); // [LAYOUT-7]
        else {
          must(offset >= end && offset % BigInt(ALIGN) === 0n, "offset", place); // [LAYOUT-1], [LAYOUT-2], [TIE-3]
          end = offset + nbytes;
          must(end <= BigInt(this.#metaAt), "bytes beyond the arrays", place); // [LAYOUT-1]
        }
      }
      must(segments <= BigInt(this.#count.segments), "more segments than digests", place); // [INDEX-12]
      const numbers = { offset: Number(offset), nbytes: Number(nbytes), segmentAt: Number(segmentAt) };
      const row = { index: i, record, key, keyBytes, type, shape, flags, aliasOf, ...numbers };
      this.#rows.push(row);
      record.rows.push(row);
      [keyAt, dimsAt] = [keyEnd, dimsEnd];
    }
    must(dimsAt === BigInt(this.#count.dims), "axes of no row"); // [INDEX-6]
    must(segments === BigInt(this.#count.segments), "digests of no row"); // [INDEX-12]
    for (const record of this.#records) {
      const place = { record: record.name };
      must(BigInt(record.rows.length) === record.arrays, "rows of a record", place); // [INDEX-13]
      const keys = new Set(record.rows.map((row) => row.key));
      must(keys.size === record.rows.length, "a key twice", place); // [INDEX-11]
    }
  }

  #checkNameTable() {
    const seen = new Uint8Array(this.#count.arrays);
    let before = 0n;
    for (let i = 0; i < this.#count.arrays; i += 1) {
      const hash = this.#u64("name_hash", i);
      const row = this.#u32("name_row", i);
      must(hash >= before, "name_hash is not sorted"); // [INDEX-10]
      must(row < seen.length && seen[row] === 0, "name_row is no permutation"); // [INDEX-9], [INDEX-10]
      seen[row] = 1;
      before = hash;
    }
  }

  /** [INDEX-21]: strings of the tables are the same bytes of the pool or apart. */
  #checkPool() {
    const strings = this.#types.flatMap((type) => type.strings);
    const spans = [...strings, ...this.#records.map((record) => record.nameBytes)]
      .filter((string) => string.length > 0)
      .map((string) => [string.byteOffset, string.byteOffset + string.length])
      .sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    for (let i = 1; i < spans.length; i += 1) {
      const [last, next] = [spans[i - 1], spans[i]];
      must(next[0] >= last[1] || (next[0] === last[0] && next[1] === last[1]), "strings that overlap");
    }
  }

  // -- sections 7.6 and 7.7

  #readDocument(valuesAt) {
    const place = { offset: valuesAt };
    const bytes = this.#bytes.subarray(valuesAt, this.#bytes.length - FOOTER_BYTES);
    const document = parsed(() => parseJson(utf8(bytes)), "the JSON document", place); // [INDEX-17], [INDEX-18]
    must(document instanceof Map, "the JSON document is no object", place);
    for (const member of ["container", "created", "writer"]) {
      must(typeof document.get(member) === "string", `no ${member}`, place); // [INDEX-18]
      this[member] = document.get(member);
    }
    this.#known(["recordset", "recorddict", "context"].includes(this.container), "an unknown container", place);
    let of = this.container;
    if (of === "context") {
      const context = document.get("context");
      must(context instanceof Map && typeof context.get("state") === "string", "no context", place);
      of = context.get("state");
      this.#known(["recordset", "recorddict"].includes(of), "an unknown state", place); // [VERSION-4]
    }
    const names = this.#records.map((record) => `${of === "recorddict" ? "" : KINDS[record.kind]}/${record.name}`);
    must(new Set(names).size === names.length, "a name of a record twice"); // [INDEX-11]

    this.#document = document;
    this.#readEntries("values", (record) => record.kind !== KIND_ARRAYS);
    this.#readEntries("attributes", (record) => record.kind === KIND_ARRAYS);
    const referred = new Set();
    for (const record of this.#records) {
      for (const [key, , row] of record.values ?? []) {
        if (row === null) continue;
        const place = { record: record.name, key };
        must(this.#rows[row]?.record === record && this.#rows[row].key === key, "another row", place); // [INDEX-20]
        must(!referred.has(row), "a row of two values", place);
        referred.add(row);
      }
      const left = record.kind !== KIND_ARRAYS && record.rows.find((row) => !referred.has(row.index));
      must(!left, "a row of no value", left && { record: record.name, key: left.key }); // [INDEX-20]
    }
  }

  /** Reads `values` or `attributes` [INDEX-19]: sets `record[member]` to a list of [key, value, row or null]. */
  #readEntries(member, isMeant) {
    const entries = this.#document.has(member) ? this.#document.get(member) : [];
    must(Array.isArray(entries), member);
    for (const entry of entries) {
      must(Array.isArray(entry) && entry.length === (member === "values" ? 3 : 2), `an entry of ${member}`);
      const [kind, name, pairs] = member === "values" ? entry : [KINDS[KIND_ARRAYS], ...entry];
      const record = this.#records.find((record) => KINDS[record.kind] === kind && record.name === name);
      must(record && isMeant(record) && !record[member], `a record of ${member}`);
      record[member] = this.#readPairs(pairs, { record: record.name }, member === "values");
    }
  }

  #readPairs(pairs, place, mayBeRows) {
    must(Array.isArray(pairs) && pairs.every((pair) => Array.isArray(pair) && pair.length === 2), "pairs", place);
    must(pairs.every(([key]) => typeof key === "string"), "a key that is no text", place);
    must(new Set(pairs.map(([key]) => key)).size === pairs.length, "a key twice", place); // [INDEX-19]
    return pairs.map(([key, value]) => {
      const where = { ...place, key };
      must(Array.isArray(value) && value.length === 2 && typeof value[0] === "string", "no value", where); // [VALUE-1]
      if (!(value[1] instanceof Map)) return [key, value, null];
      const row = value[1].get("row");
      must(mayBeRows && value[1].size === 1 && row instanceof JsonNumber && row.isInteger, "no row", where); // [INDEX-19]
      return [key, value, Number(row.text)];
    });
  }

  // ---- what a caller uses

  /** Records in order: { index, name, kind, rows }. A row: { record, key, type, shape, nbytes, ... }. */
  records() {
    return this.#records.map(({ index, name, kind, rows }) => ({ index, name, kind: KINDS[kind], rows: [...rows] }));
  }

  /** Values of a metrics or configs record: [[key, [type, payload]], ...]. */
  values(record) {
    const { kind, name, values } = this.#records[record.index];
    return (values ?? []).map(([key, value, row]) => {
      const place = { record: name, key };
      return [key, row === null ? this.#value(value, kind, place) : this.#stored(value[0], this.#rows[row], place)];
    });
  }

  /** What is said of an array record as a whole, likewise. */
  attributes(record) {
    const { name, attributes } = this.#records[record.index];
    return (attributes ?? []).map(([key, value]) => [key, this.#value(value, null, { record: name, key })]);
  }

  /** The member `context`: run_id, node_id, series_id where it is not 0, state, node_config, run_config; or null. */
  get context() {
    if (this.container !== "context") return null;
    const context = this.#document.get("context");
    const result = { state: context.get("state") };
    for (const member of ["run_id", "node_id", "series_id"]) {
      if (member === "series_id" && !context.has(member)) continue;
      const [[, value]] = this.#readPairs([[member, context.get(member)]], {}, false);
      must(value[0] === "int", "no int", { key: member });
      result[member] = this.#value(value, null, { key: member });
    }
    for (const member of ["node_config", "run_config"]) {
      const pairs = this.#readPairs(context.get(member), { record: member }, false);
      result[member] = pairs.map(([key, value]) => [key, this.#value(value, null, { record: member, key })]);
    }
    return result;
  }

  /** [DIGEST-4] */
  get digest() {
    return xxh3_128(this.#bytes.subarray(-FOOTER_BYTES));
  }

  /** The row of an array, or null: binary search in the name table (section 13.2). */
  find(name, key) {
    const wanted = Buffer.from(key, "utf8");
    const hash = xxh3_64(wanted);
    let [low, high] = [0, this.#count.arrays];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#u64("name_hash", middle) < hash) low = middle + 1;
      else high = middle;
    }
    for (; low < this.#count.arrays && this.#u64("name_hash", low) === hash; low += 1) {
      const row = this.#rows[this.#u32("name_row", low)];
      const place = { record: row.record.name, key: row.key };
      must(row.key === key || xxh3_64(row.keyBytes) === hash, "a hash that is not its key's", place); // [INDEX-10]
      if (row.key === key && row.record.name === name && row.record.kind === KIND_ARRAYS) return row; // [OPEN-3]
    }
    return null;
  }

  /** The verified bytes of a row as they are stored, or those from `start` to `stop`. */
  stored(row, start = 0, stop = row.nbytes) {
    const segment = segmentBytes(row.nbytes);
    for (let i = Math.floor(start / segment); start < stop && i * segment < stop; i += 1) {
      this.#checkSegment(row, i); // [READ-1]
    }
    return this.#bytes.subarray(row.offset + start, row.offset + stop);
  }

  /** Bytes of the entries `start` to `stop` of the first axis, in modes ELEMENTS and TEXT (section 13.3). */
  slice(row, start, stop) {
    const rows = Number(row.shape[0] ?? 0n);
    const isSlice = start >= 0 && start <= stop && stop <= rows;
    if (!isSlice || row.type.mode === MODE_DATA) throw new RangeError("no such slice");
    const each = rows === 0 ? 0 : row.nbytes / rows;
    return this.stored(row, start * each, stop * each);
  }

  #checkSegment(row, i) {
    const segment = segmentBytes(row.nbytes);
    const from = row.offset + i * segment;
    const to = Math.min(from + segment, row.offset + row.nbytes);
    const at = this.#at.digests + DIGEST_BYTES * (row.segmentAt + i);
    if (!xxh3_128(this.#bytes.subarray(from, to)).equals(this.#bytes.subarray(at, at + DIGEST_BYTES))) {
      const place = { record: row.record.name, key: row.key, offset: from };
      throw new Digest("a segment is damaged", place); // [READ-2]
    }
  }

  /** `Array.data` (section 8.5): of an ndarray a .npy file. */
  data(row) {
    const { type, shape } = row;
    const place = { record: row.record.name, key: row.key };
    const bytes = this.stored(row);
    if (type.mode === MODE_DATA) return bytes; // [DTYPE-7]
    const fortran = row.flags === FLAG_FORTRAN;
    const both = row.nbytes === 0 || shape.filter((axis) => axis > 1n).length < 2;
    let header = type.npyHeader; // handed out as it is [DTYPE-9]
    if (header.length === 0) header = canonicalHeader(type.description, shape, fortran);
    let elements = type.mode === MODE_TEXT ? widen(bytes, type, place) : bytes;
    if (fortran && !both) elements = transpose(elements, shape.map(Number), Number(type.element.size));
    return Buffer.concat([header, elements]);
  }

  /** [DIGEST-3] */
  digestOf(row) {
    const { type, shape } = row;
    const numbers = [DIGEST_ALGORITHM, type.itemsize, type.mode, row.flags];
    numbers.push(...type.strings.map((string) => string.length), shape.length, ...shape);
    const packed = Buffer.alloc(8 * numbers.length);
    numbers.forEach((number, i) => packed.writeBigUInt64LE(BigInt(number), 8 * i));
    const segments = Math.ceil(row.nbytes / segmentBytes(row.nbytes));
    const at = this.#at.digests + DIGEST_BYTES * row.segmentAt;
    return xxh3_128(Buffer.concat([packed, ...type.strings, this.#bytes.subarray(at, at + DIGEST_BYTES * segments)]));
  }

  /** All failures [VERIFY-2], with offset; open has checked metadata, index and footer before. */
  verify() {
    const failures = [];
    const attempt = (check) => {
      try {
        check();
      } catch (error) {
        failures.push(error);
      }
    };
    const padding = (from, to) => {
      let at = from;
      while (at < to && this.#bytes[at] === 0) at += 1;
      if (at < to) throw new Damaged("padding that is not zero", { offset: at }); // [LAYOUT-5], [VERIFY-1]
    };
    let end = SUPERBLOCK_BYTES;
    for (const row of this.#rows) {
      if (row.nbytes === 0 || row.aliasOf !== NO_ALIAS) continue;
      attempt(() => padding(end, row.offset));
      end = row.offset + row.nbytes;
      for (let i = 0; i * segmentBytes(row.nbytes) < row.nbytes; i += 1) attempt(() => this.#checkSegment(row, i));
    }
    attempt(() => padding(end, this.#metaAt));
    for (let i = 0; i < this.#count.arrays; i += 1) {
      const row = this.#rows[this.#u32("name_row", i)];
      const place = { record: row.record.name, key: row.key, offset: this.#at.name_hash + 8 * i };
      const hash = this.#u64("name_hash", i);
      attempt(() => must(xxh3_64(row.keyBytes) === hash, "a hash of another key", place)); // [VERIFY-1]
    }
    for (const record of this.records()) {
      attempt(() => (record.kind === "arrays" ? this.attributes(record) : this.values(record))); // [VERIFY-3]
    }
    attempt(() => this.context);
    for (const row of this.#rows.filter(({ type }) => type.mode === MODE_TEXT)) attempt(() => this.data(row));
    return failures;
  }

  // ---- section 10

  #checkType(type, kind, place) {
    this.#known(CONFIG_TYPES.includes(type), "an unknown type", place); // [VERSION-4]
    const held = KINDS[kind] !== "metrics" || METRIC_TYPES.includes(type);
    must(held, "a type that metrics do not hold", place); // [VALUE-11]
  }

  /** A value of the JSON document; `kind` null stands for the values of configs. */
  #value([type, payload], kind, place) {
    this.#checkType(type, kind, place);
    return parsed(() => [type, this.#payload(type, payload)], type, place);
  }

  #payload(type, payload) {
    if (type in READ_SCALAR) return READ_SCALAR[type](payload);
    must(Array.isArray(payload), "no list"); // [VALUE-8]
    if (type === "list") {
      must(payload.length === 0, "a list without type");
      return [];
    }
    must(payload.length > 0, "an empty list with a type"); // section 10.1
    must(type !== "ints" || typeof payload[0] !== "boolean", "ints that begin with a bool"); // section 10.1
    const read = READ_SCALAR[SINGULAR[type]];
    const items = payload.map((item) => (type === "ints" && typeof item === "boolean" ? item : read(item)));
    if (type === "ints") {
      const numbers = items.map((item) => BigInt(item));
      const fits = (bits) => numbers.every((number) => BigInt[bits](64, number) === number);
      must(fits("asIntN") || fits("asUintN"), "integers of no one type"); // [VALUE-10]
    }
    return items;
  }

  /** A value stored as a dataset (section 10.4); the type is the JSON document's [VALUE-13]. */
  #stored(type, row, place) {
    const { mode, description } = row.type;
    const kind = row.record.kind;
    this.#checkType(type, kind, place);
    const elements = { bools: ["|b1"], ints: ["<i8", "<u8", "|u1"], floats: ["<f8"] }[type] ?? ["|u1"];
    must(elements.includes(description), "a description", place); // [VALUE-15]
    const size = ["|u1", "|b1"].includes(description) ? 1 : 8;
    must(mode === MODE_DATA && row.shape.length === 1, "the row of a value", place); // [VALUE-14]
    must(row.shape[0] * BigInt(size) === BigInt(row.nbytes), "the length of a value", place);
    const bytes = this.stored(row); // [VALUE-13]: verified
    if (type === "str") return [type, this.#text(bytes, place)];
    if (type === "bytes") return [type, bytes.toString("base64")];
    if (description === "|u1") {
      const value = parsed(() => parseJson(utf8(bytes)), "a value", place);
      must(Array.isArray(value) && value.length === 2 && value[0] === type, "a value of another type", place);
      return this.#value(value, kind, place);
    }
    must(bytes.length > 0, "an empty list with a type", place); // section 10.1
    const items = [];
    for (let at = 0; at < bytes.length; at += size) {
      if (description === "|b1") must(bytes[at] <= 1, "no bool", place); // [DTYPE-1]
      if (description === "|b1") items.push(bytes[at] === 1);
      else if (description === "<f8") items.push(spellFloat(bytes.readBigUInt64LE(at)));
      else items.push(spellInt(description === "<i8" ? bytes.readBigInt64LE(at) : bytes.readBigUInt64LE(at)));
    }
    return [type, items];
  }
}

// ---- section 8: elements of Array.data

/** Mode TEXT: elements of UTF-8 become code points of 4 bytes in the order of the description. */
function widen(bytes, type, place) {
  const from = Number(type.itemsize);
  const to = Number(type.element.size);
  const wide = Buffer.alloc((bytes.length / from) * to);
  for (let i = 0; i * from < bytes.length; i += 1) {
    let end = (i + 1) * from;
    while (end > i * from && bytes[end - 1] === 0) end -= 1;
    const text = parsed(() => utf8(bytes.subarray(i * from, end)), "an element", place); // [DTYPE-6]
    let at = i * to;
    for (const character of text) {
      must(at < (i + 1) * to, "an element that is too long", place); // [DTYPE-6]
      if (type.element.big) wide.writeUInt32BE(character.codePointAt(0), at);
      else wide.writeUInt32LE(character.codePointAt(0), at);
      at += 4;
    }
  }
  return wide;
}

/** From C order to column-major order: the first axis is the fastest. */
function transpose(bytes, shape, size) {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((a, b) => a * b, size));
  const result = Buffer.alloc(bytes.length);
  const position = shape.map(() => 0);
  let from = 0;
  for (let to = 0; to < bytes.length; to += size) {
    bytes.copy(result, to, from, from + size);
    for (let axis = 0; axis < shape.length; axis += 1) {
      from += strides[axis];
      position[axis] += 1;
      if (position[axis] < shape[axis]) break;
      from -= strides[axis] * shape[axis];
      position[axis] = 0;
    }
  }
  return result;
}

// Values in one comparable form, as canon.py spells them.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { pathToFileURL } from "node:url";

const hex = (bytes) => Buffer.from(bytes).toString("hex");

/** Return little-endian float64 in which every NaN is the same. */
function floats(numbers) {
  const bytes = Buffer.alloc(numbers.length * 8);
  numbers.forEach((number, at) => bytes.writeDoubleLE(Number.isNaN(number) ? NaN : Number(number), at * 8));
  return hex(bytes);
}

/** Return little-endian 64-bit integers. */
function integers(numbers) {
  const bytes = Buffer.alloc(numbers.length * 8);
  numbers.forEach((number, at) => bytes.writeBigUInt64LE(BigInt.asUintN(64, BigInt(number)), at * 8));
  return hex(bytes);
}

function text(item) {
  const bytes = Buffer.from(item, "utf8");
  let end = bytes.length;
  while (end && bytes[end - 1] === 0) end--;
  return hex(bytes.subarray(0, end));
}

/** Return the form of elements of a kind: int, float, complex, text or opaque. */
export function form(kind, shape, items) {
  if (kind === "empty") return { kind, shape: [], hex: "" };
  const flat = Array.isArray(items) ? items.flat(Infinity) : ArrayBuffer.isView(items) ? [...items] : [items];
  if (kind === "text") return { kind, shape, hex: flat.map(text) };
  if (kind === "int") return { kind, shape, hex: integers(flat) };
  if (kind === "float" || kind === "complex") return { kind, shape, hex: floats(flat) };
  return { kind, shape, hex: hex(Uint8Array.from(flat)) };
}

/** Return what a call returns, or the error that it throws as a form. */
export function tried(read) {
  try {
    return read();
  } catch (error) {
    const name = error instanceof Error ? error.name : "Error";
    return { kind: "error", shape: [], hex: `${name}: ${String(error?.message ?? error).slice(0, 200)}` };
  }
}

/** Return a package of the folder that FEDARCHIVE_HDF5_NPM names, and its version. */
export async function load(name, file) {
  const folder = join(process.env.FEDARCHIVE_HDF5_NPM, "node_modules", name);
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const path = createRequire(join(folder, "package.json")).resolve(join(folder, file));
  return { library: await import(pathToFileURL(path)), version, folder: dirname(path) };
}

/** Print what a driver has to say: versions, or the objects of the file that is named. */
export function run(versions, read) {
  const path = process.argv[2];
  process.stdout.write(`\nsaid: ${JSON.stringify(path === undefined ? versions() : read(path))}\n`);
}

// h5wasm: libhdf5 in WebAssembly, which h5web and myHDF5 show files by.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { form, load, run, tried } from "./canon.mjs";

const { library, version, folder } = await load("h5wasm", "dist/node/hdf5_hl.js");
const { default: h5wasm } = library;
await h5wasm.ready;
const INTEGER = 0, FLOAT = 1, STRING = 3, OPAQUE = 5, COMPOUND = 6, ENUM = 8, VLEN = 9, ARRAY = 10;

/** Return the form of values that h5wasm read, by their metadata. */
function formed(metadata, value, shape) {
  if (value === null || shape === null || shape === undefined) return form("empty");
  const { type } = metadata;
  if (type === COMPOUND || metadata.compound_type) return compound(metadata, value, shape);
  const kind = { [INTEGER]: "int", [FLOAT]: "float", [STRING]: "text", [ENUM]: "int", [VLEN]: "text" }[type];
  if (type === OPAQUE) return form("opaque", shape, [value].flat(Infinity).flatMap((item) => [...item]));
  if (type === ARRAY) return formed(metadata.array_type, value, [...shape, ...metadata.array_type.shape]);
  return form(kind, shape, booleans(value));
}

function booleans(value) {
  const flat = Array.isArray(value) ? value.flat(Infinity) : value;
  return Array.isArray(flat) ? flat.map((item) => (typeof item === "boolean" ? Number(item) : item)) : flat;
}

function compound({ compound_type: { members } }, value, shape) {
  const rows = shape.length ? value : [value];
  const names = members.map((member) => member.name);
  if (names.join() === "r,i") return form("complex", shape, rows.flat(Infinity));
  const fields = members.map((member, at) => {
    const items = rows.map((row) => row[at]);
    const flat = items.flatMap((item) => (ArrayBuffer.isView(item) ? [...item] : [item]));
    return [member.name, formed(member, flat, shape)];
  });
  return { kind: "compound", shape, hex: Object.fromEntries(fields) };
}

function entry(item) {
  const names = tried(() => Object.keys(item.attrs));
  const attrs = Object.create(null);
  for (const name of names.kind ? [] : names) {
    attrs[name] = tried(() => formed(item.attrs[name].metadata, item.attrs[name].value, item.attrs[name].shape));
  }
  if (!(item instanceof library.Dataset)) return { data: null, attrs };
  return { data: tried(() => formed(item.metadata, item.value, item.shape)), attrs };
}

function walk(group, path, found) {
  for (const name of group.keys()) {
    const place = `${path}/${name}`;
    let item;
    const error = tried(() => ((item = group.get(name)), null));
    found[place] = error === null ? entry(item) : { data: error, attrs: {} };
    if (item instanceof library.Group) walk(item, place, found);
  }
}

function read(path) {
  const file = new library.File(path, "r");
  const found = Object.create(null);
  found["/"] = entry(file);
  walk(file, "", found);
  file.close();
  return found;
}

function versions() {
  const built = readFileSync(join(folder, "hdf5_util.js"), "latin1").match(/HDF5 Version: ([0-9.]+)/);
  return { tool: version, hdf5: built?.[1] ?? "unknown" };
}

run(versions, read);

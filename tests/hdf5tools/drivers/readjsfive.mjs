// jsfive, HDF5 in JavaScript alone.

import { readFileSync } from "node:fs";
import { form, load, run, tried } from "./canon.mjs";

const { library, version } = await load("jsfive", "dist/esm/index.mjs");

/** Return the kind that jsfive's spelling of a type means. */
function kindOf(dtype) {
  if (typeof dtype === "string") {
    const letter = dtype.replace(/^[<>|=!]/, "")[0];
    return { f: "float", i: "int", u: "int", S: "text", b: "int" }[letter] ?? letter;
  }
  if (dtype?.[0] === "ENUMERATION") return "int";
  return dtype?.[0]?.startsWith("VLEN_STRING") ? "text" : "list";
}

/** Return the kind of an attribute, of which jsfive tells nothing but the value. */
function attribute(value) {
  if (value === null || value === undefined) return form("empty");
  const items = Array.isArray(value) ? value.flat(Infinity) : [value];
  const shape = Array.isArray(value) ? [value.length] : [];
  const first = items[0];
  if (typeof first === "string") return form("text", shape, items);
  const whole = items.every((item) => typeof item === "bigint" || Number.isInteger(item));
  return form(whole ? "int" : "float", shape, items);
}

function entry(item) {
  const names = Object.keys(item.attrs);
  const attrs = Object.fromEntries(names.map((name) => [name, tried(() => attribute(item.attrs[name]))]));
  if (!(item instanceof library.Dataset)) return { data: null, attrs };
  const read = () => form(kindOf(item.dtype), item.shape ?? [], item.value);
  return { data: tried(read), attrs };
}

function walk(group, path, found) {
  for (const name of group.keys) {
    const place = `${path}/${name}`;
    let item;
    const error = tried(() => ((item = group.get(name)), null));
    found[place] = error === null ? entry(item) : { data: error, attrs: {} };
    if (item instanceof library.Group) walk(item, place, found);
  }
}

function read(path) {
  const bytes = readFileSync(path);
  const file = new library.File(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length), path);
  const found = Object.create(null);
  found["/"] = entry(file);
  walk(file, "", found);
  return found;
}

run(() => ({ tool: version, hdf5: "none" }), read);

// Runs the reader over a folder of test vectors: FOLDER/{valid,invalid}/NAME.h5, each with a NAME.json that says
// what is in it or how it is refused. `node vectors.mjs FOLDER`; exit code 1 where anything differs.

import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Archive, ArchiveError } from "./reader.mjs";

/** What the reader says of an archive, in the form of the JSON file of a vector. */
function describe(archive) {
  const records = archive.records().map((record) => {
    const { kind, name } = record;
    if (kind !== "arrays") return { kind, name, values: archive.values(record) };
    const arrays = record.rows.map((row) => {
      const data = archive.data(row);
      return {
        key: row.key,
        dtype: row.type.dtype,
        shape: row.shape,
        stype: row.type.stype,
        description: row.type.description,
        nbytes: row.nbytes,
        data_bytes: data.length,
        data_sha256: createHash("sha256").update(data).digest("hex"),
        digest: archive.digestOf(row).toString("hex"),
      };
    });
    return { kind, name, attributes: archive.attributes(record), arrays };
  });
  const { container, created, writer, context } = archive;
  return { container, created, writer, context, archive_digest: archive.digest.toString("hex"), records };
}

/** The first place where two values differ, or null. Numbers compare as numbers, zeros with their sign. */
function difference(mine, stated, path = "") {
  if (typeof mine === "bigint") mine = typeof stated === "string" ? String(mine) : Number(mine);
  if (mine === null || stated === null || typeof mine !== "object" || typeof stated !== "object") {
    return Object.is(mine, stated) ? null : `${path}: ${JSON.stringify(mine)}, stated ${JSON.stringify(stated)}`;
  }
  for (const name of new Set([...Object.keys(mine), ...Object.keys(stated)])) {
    const found = difference(mine[name], stated[name], `${path}/${name}`);
    if (found) return found;
  }
  return null;
}

function readValid(path, stated) {
  const archive = Archive.open(path);
  const { title, proves, outcome, notes, ...content } = stated;
  const found = difference(describe(archive), content);
  if (found) return found;
  for (const record of archive.records().filter(({ kind }) => kind === "arrays")) {
    for (const row of record.rows) {
      if (archive.find(record.name, row.key)?.index !== row.index) return `find ${record.name} ${row.key}`;
      if (archive.find(record.name, `${row.key}\u0000 no such key`)) return "find finds a key that is not there";
    }
  }
  const [failure] = archive.verify();
  return failure ? `verify: ${failure}` : null;
}

function readValues(archive) {
  for (const record of archive.records()) {
    if (record.kind === "arrays") archive.attributes(record);
    else archive.values(record);
  }
  return archive.context;
}

function throwFirst([failure]) {
  if (failure) throw failure;
}

/** [operation, error]: opens the file, then does what the vector names; null where both succeed. */
function refuse(path, when, place) {
  let operation = "open";
  try {
    const archive = Archive.open(path);
    operation = when;
    if (when === "values") readValues(archive);
    if (when === "read") archive.data(archive.find(place.record, place.key));
    if (when === "verify") throwFirst(archive.verify());
  } catch (error) {
    return [operation, error];
  }
  return null;
}

function readInvalid(path, { error: name, when, place }) {
  const [operation, error] = refuse(path, when, place) ?? [];
  if (!error) return `not refused, stated ${name} at ${when}`;
  if (!(error instanceof ArchiveError)) return error.stack;
  const told = `${error.name} at ${operation} (${error.message}, ${JSON.stringify(error.place)})`;
  // A reader may look at the JSON document when it opens the file; this one does.
  const early = operation === "open" && when === "values";
  if (error.name !== name || (operation !== when && !early)) return `${told}, stated ${name} at ${when}`;
  if (operation !== "open" && refuse(path, "verify", place) === null) return `verify finds nothing, but ${told}`;
  const found = Object.entries(place ?? {}).find(([member, value]) => error.place[member] !== value);
  return found ? `${told}, stated place ${JSON.stringify(place)}` : null;
}

function runAll(folder, check) {
  const names = readdirSync(folder).filter((name) => name.endsWith(".json"));
  let passed = 0;
  let left = 0;
  for (const name of names) {
    const stated = JSON.parse(readFileSync(join(folder, name), "utf8"));
    if (stated.when === "tree") {
      left += 1; // this reader does not read the HDF5 tree
      continue;
    }
    let mismatch;
    try {
      mismatch = check(join(folder, name.replace(/json$/, "h5")), stated);
    } catch (error) {
      mismatch = String(error.stack);
    }
    if (mismatch) console.log(`${join(folder, name)}: ${mismatch}`);
    else passed += 1;
  }
  return [passed, names.length - left];
}

const folder = process.argv[2];
if (!folder) {
  console.error("usage: node vectors.mjs FOLDER");
  process.exit(2);
}
const [read, valid] = runAll(join(folder, "valid"), readValid);
const [refused, invalid] = runAll(join(folder, "invalid"), readInvalid);
console.log(`valid: ${read} of ${valid} read, invalid: ${refused} of ${invalid} refused as stated`);
process.exitCode = read === valid && refused === invalid && valid > 0 && invalid > 0 ? 0 : 1;

// JSON as section 7.6 needs it. JSON.parse drops all but the last of equal members, rounds integers and
// accepts lone surrogates, so it cannot be used: objects become Maps, numbers keep their text.

const MAX_NESTING = 32; // [INDEX-18]
const BLANK = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
// eslint-disable-next-line no-control-regex
const STRING = /"((?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*)"/y;

export class JsonNumber {
  constructor(text) {
    this.text = text;
  }

  get isInteger() {
    return /^-?[0-9]+$/.test(this.text);
  }
}

/** Bytes that have to be UTF-8; throws where they are not. A byte order mark is a character like others. */
export function utf8(bytes) {
  return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
}

/** The value of a JSON text; throws SyntaxError for anything that is not JSON or has a member twice. */
export function parseJson(text) {
  let at = 0;

  const fail = (why) => {
    throw new SyntaxError(`${why} at character ${at} of the JSON`);
  };
  const match = (pattern) => {
    pattern.lastIndex = at;
    const found = pattern.exec(text);
    if (found) at += found[0].length;
    return found;
  };
  const blank = () => match(BLANK);
  const take = (token) => {
    blank();
    if (!text.startsWith(token, at)) return false;
    at += token.length;
    return true;
  };

  const string = () => {
    blank();
    const found = match(STRING) ?? fail("no string");
    const value = found[1].includes("\\") ? JSON.parse(found[0]) : found[1];
    if (!value.isWellFormed()) fail("a lone surrogate");
    return value;
  };

  const items = (close, one) => {
    if (take(close)) return;
    do one();
    while (take(","));
    if (!take(close)) fail(`no ${close}`);
  };

  const value = (depth) => {
    if (take("{")) {
      if (depth > MAX_NESTING) fail("too deep");
      const members = new Map();
      items("}", () => {
        const name = string();
        if (members.has(name)) fail("a member twice"); // [INDEX-18]
        if (!take(":")) fail("no colon");
        members.set(name, value(depth + 1));
      });
      return members;
    }
    if (take("[")) {
      if (depth > MAX_NESTING) fail("too deep");
      const list = [];
      items("]", () => list.push(value(depth + 1)));
      return list;
    }
    if (take("true")) return true;
    if (take("false")) return false;
    if (take("null")) return null;
    if (text[at] === '"') return string();
    const number = new JsonNumber((match(NUMBER) ?? fail("no value"))[0]);
    if (number.isInteger && number.text.replace("-", "").length > 309) fail("a long integer"); // [INDEX-18]
    return number;
  };

  const result = value(1);
  blank();
  if (at !== text.length) fail("something behind the value");
  return result;
}

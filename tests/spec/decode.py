"""Types, ``.npy`` headers and values, from sections 8.1, 8.5 and 10.2 of ``spec/v1/format.md`` alone."""

import ast
import base64
import math
import re
import struct

PLAIN = re.compile(r"[<>|](?:([biufcSUV])(\d+)|[Mm]8(?:\[\d*\w+\])?)")
ML_TYPE = re.compile(r"bfloat16|float[468]_e\dm\d(b11)?(fn)?(uz)?|float8_e8m0fnu|u?int[124]")


def parse(kind):
    """Return a plain type's text, or ([(type, shape)], size) of a structured one (8.1)."""
    if isinstance(kind, str) and kind[:1] != "[":
        if not PLAIN.fullmatch(kind) and not ML_TYPE.fullmatch(kind):
            raise ValueError("[DTYPE-3]")
        return kind
    kind = ast.literal_eval(kind) if isinstance(kind, str) else kind
    found = [(parse(inner), (*shape, ())[0]) for _, inner, *shape in kind]
    return found, sum(sizeof(inner) * math.prod(shape) for inner, shape in found)


def element_size(description):
    try:
        return sizeof(parse(description))
    except (TypeError, KeyError, SyntaxError, RecursionError) as error:
        raise ValueError("[DTYPE-3]") from error


def sizeof(kind):
    if not isinstance(kind, str) or ML_TYPE.fullmatch(kind):
        return 1 + (kind == "bfloat16") if isinstance(kind, str) else kind[1]
    letter, count = PLAIN.fullmatch(kind).groups()
    return 8 if letter is None else int(count) * (4 if letter == "U" else 1)


def descr(description):
    if description.startswith("["):
        return description
    return repr(f"<V{sizeof(description)}" if ML_TYPE.fullmatch(description) else description)


def npy_header(descr, shape, fortran):
    spelled = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}"
    spelled += " " * (21 - len(str(shape[-fortran]))) if shape else ""
    latin = all(ord(char) < 256 for char in spelled)
    body = spelled.encode("latin1" if latin else "utf-8")
    version, width = (1, 2) if latin and len(body) < 65450 else (2, 4) if latin else (3, 4)
    rest = body + b" " * (64 - (8 + width + len(body) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + len(rest).to_bytes(width, "little") + rest


def decode_float(payload):
    named = not isinstance(payload, str) or payload in ("inf", "-inf", "nan")
    return float(payload) if named else struct.unpack(">d", bytes.fromhex(payload))[0]


DECODE = {"bool": bool, "int": lambda n: n if isinstance(n, bool) else int(n), "float": decode_float}
DECODE |= {"str": str, "bytes": base64.b64decode}
LETTERS = {"|b1": "?", "<i8": "q", "<u8": "Q", "<f8": "d"}


def distinct(pairs):
    if len(dict(pairs)) != len(pairs):
        raise ValueError("[INDEX-18]")
    return dict(pairs)

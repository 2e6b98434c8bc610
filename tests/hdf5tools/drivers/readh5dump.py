"""h5dump: its XML, since in its other output a name or a text may look like the structure around it."""

import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np

from tests.hdf5tools.drivers.canon import run, tried

PREFIX = "{http://hdfgroup.org/HDF5/XML/schema/HDF5-File.xsd}"
TOKEN = re.compile(r'"((?:\\.|[^"\\])*)"|(\S+)', re.DOTALL)
ESCAPE = re.compile(r"\\([0-7]{3}|.)", re.DOTALL)
LETTERS = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
HIDDEN = 0xE000
"""Control characters are moved to here while the XML is parsed: it cannot hold them, and makes a space of a
line break in a name."""


def local(element):
    return element.tag.removeprefix(PREFIX)


def child(element, *names):
    """Return the first descendant by these names, each a child of the one before."""
    for name in names:
        element = element.find(PREFIX + name)
        if element is None:
            return None
    return element


def hidden(text, characters="\0-\x1f"):
    return re.sub(f"[{characters}]", lambda found: chr(ord(found[0]) + HIDDEN), text)


def restored(text):
    return re.sub("[\ue000-\ue01f]", lambda found: chr(ord(found[0]) - HIDDEN), text)


def unescaped(text):
    def letter(found):
        code = found[1]
        return chr(int(code, 8)) if len(code) == 3 else LETTERS.get(code, code)

    return ESCAPE.sub(letter, text)


def dtype_of(element):
    """Return the numpy type of a DataType element; texts are objects, enumerations `bool`."""
    kind = next(iter(element))
    if local(kind) == "CompoundType":
        fields = kind.findall(PREFIX + "Field")
        return np.dtype([(field.get("FieldName"), dtype_of(child(field, "DataType"))) for field in fields])
    if local(kind) == "ArrayType":
        sizes = [int(each.get("DimSize")) for each in kind.findall(PREFIX + "ArrayDimension")]
        return np.dtype((dtype_of(child(kind, "DataType")), tuple(sizes)))
    kind = next(iter(kind))
    name, size = local(kind), int(kind.get("Size") or 0)
    if name == "IntegerType":
        return np.dtype(f"{'i' if kind.get('Sign') == 'true' else 'u'}{size}")
    if name == "OpaqueType":
        return np.dtype(f"V{size}")
    return np.dtype({"FloatType": "f8", "StringType": "O", "EnumType": "?"}[name])


def taken(tokens, dtype):
    """Take one element from an iterator of tokens."""
    if dtype.names:
        return tuple(taken(tokens, dtype[name]) for name in dtype.names)
    if dtype.subdtype:
        inner, shape = dtype.subdtype
        items = [taken(tokens, inner) for _ in range(int(np.prod(shape)))]
        return np.array(items, inner).reshape(shape)
    token = next(tokens)
    if dtype.kind == "V":
        return bytes.fromhex(token.replace(":", ""))
    if dtype.kind == "b":
        return token == "TRUE"
    return {"i": int, "u": int, "f": float}.get(dtype.kind, str)(token)


def value(element):
    """Return what a Dataset or an Attribute element holds."""
    space = child(element, "Dataspace")
    simple = child(space, "SimpleDataspace")
    if simple is None and child(space, "ScalarDataspace") is None:
        return None
    axes = [] if simple is None else simple.findall(PREFIX + "Dimension")
    shape = tuple(int(axis.get("DimSize")) for axis in axes)
    dtype = dtype_of(child(element, "DataType"))
    data = child(element, "Data", "DataFromFile")
    text = "" if data is None else restored(data.text or "")
    quoted = TOKEN.finditer(text)
    tokens = (unescaped(found[1]) if found[2] is None else found[2] for found in quoted)
    found = np.empty(shape, dtype)
    flat = found.reshape(-1) if shape else found.reshape(1)
    for at in range(flat.size):
        flat[at] = taken(tokens, dtype)
    if next(tokens, None) is not None:
        raise ValueError("more values than elements")
    return flat.reshape(shape)


def entry(element, is_group):
    attributes = {
        restored(each.get("Name")): tried(lambda each=each: value(each))
        for each in element.findall(PREFIX + "Attribute")
    }
    return {"data": None if is_group else tried(lambda: value(element)), "attrs": attributes}


def walk(group, path, found):
    for element in group:
        if local(element) not in ("Group", "Dataset"):
            continue
        place = path + "/" + restored(element.get("Name"))
        pointed = child(element, f"{local(element)}Ptr")
        if pointed is not None:
            found[place] = found[restored(pointed.get("H5Path"))]
            continue
        found[place] = entry(element, local(element) == "Group")
        if local(element) == "Group":
            walk(element, place, found)


def read(path):
    command = ["h5dump", "-x", "-y", "-w", "0", "-m", "%.17g", path]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        sys.exit(f"h5dump: exit {done.returncode}, {done.stderr.decode(errors='replace')[-300:]}")
    text = done.stdout.decode("utf-8")
    text = hidden(text, "\0-\x08\x0b-\x1f")
    text = re.sub('="[^"<>]*"', lambda found: hidden(found[0]), text)
    root = child(ElementTree.fromstring(text), "RootGroup")
    found = {"/": entry(root, True)}
    walk(root, "", found)
    return found


def versions():
    done = subprocess.run(["h5dump", "--version"], capture_output=True, text=True, check=True)
    version = done.stdout.split()[-1]
    return {"tool": version, "hdf5": version}


if __name__ == "__main__":
    run(versions, read)

"""Values in one comparable form, whichever library read them: bytes as hexadecimal digits, kind, shape.

This runs under every Python from 3.6 on, and imports numpy alone.
"""

import argparse
import binascii
import json
import sys

import numpy as np

MARK = "said: "
"""Begins the one line of a driver that is read; libraries print lines of their own."""
RAISED = (Exception,)
"""Whatever a library raises is what it says of an object."""


def hexed(data):
    return binascii.hexlify(data).decode()


def form(kind, shape, data):
    return {"kind": kind, "shape": [int(length) for length in shape], "hex": hexed(data)}


def texts(items, shape):
    """Return texts without the NULs that pad them, as UTF-8."""
    found = [
        item.encode("utf-8", "surrogateescape") if isinstance(item, str) else bytes(item) for item in items
    ]
    return {
        "kind": "text",
        "shape": [int(length) for length in shape],
        "hex": [hexed(item.rstrip(b"\0")) for item in found],
    }


def canon(value):
    """Return any value: None is a null dataspace."""
    if value is None:
        return {"kind": "empty", "shape": [], "hex": ""}
    if isinstance(value, (str, bytes)):
        return texts([value], ())
    array = np.asarray(value)
    if array.dtype.kind == "O":
        items = array.ravel().tolist()
        if all(isinstance(item, (str, bytes)) for item in items):
            return texts(items, array.shape)
        if array.shape == ():
            return canon(items[0])
        return {"kind": "list", "shape": list(array.shape), "hex": [canon(item) for item in items]}
    if array.dtype.kind in "SU":
        return texts(array.ravel().tolist(), array.shape)
    return numbers(array)


def numbers(array):
    kind, names = array.dtype.kind, array.dtype.names
    if names == ("r", "i") and array.dtype["r"].kind == "f":
        parts = [floats(array[name]).reshape(-1) for name in names]
        return form("complex", array.shape, np.stack(parts, axis=-1).tobytes())
    if names is not None:
        fields = {name: canon(np.ascontiguousarray(array[name])) for name in names}
        return {"kind": "compound", "shape": list(array.shape), "hex": fields}
    if kind == "V":
        return form("opaque", array.shape, array.tobytes())
    if kind in "mM":
        return form("int", array.shape, array.astype("<i8").tobytes())
    if kind in "biu":
        return form("int", array.shape, array.astype("<u8" if kind == "u" else "<i8").tobytes())
    if kind == "c":
        parts = [floats(part).reshape(-1) for part in (array.real, array.imag)]
        return form("complex", array.shape, np.stack(parts, axis=-1).tobytes())
    return form("float", array.shape, floats(array).tobytes())


def floats(array):
    """Return float64 in which every NaN is the same."""
    found = np.array(array, dtype="<f8")
    found[np.isnan(found)] = np.nan
    return found


def tried(read):
    """Return the form of what a call returns, or of the error it raises."""
    try:
        return canon(read())
    except RAISED as error:
        return failed(error)["data"]


def failed(error):
    """Return an object that could not be opened."""
    said = f"{type(error).__name__}: {str(error)[:200]}"
    return {"data": {"kind": "error", "shape": [], "hex": said}, "attrs": {}}


def tried_attributes(names, read):
    """Return the forms of named attributes, each read by itself."""
    return {str(name): tried(lambda name=name: read(name)) for name in names}


def run(versions, read):
    """Print the versions of a library, or the objects of the file that is named, as one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", nargs="?")
    path = parser.parse_args().path
    said = versions() if path is None else read(path)
    sys.stdout.write("\n" + MARK + json.dumps(said) + "\n")
    sys.stdout.flush()

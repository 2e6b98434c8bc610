"""What a tool says of a file, compared with what was saved; and whose fault a difference is."""

from __future__ import annotations

import binascii
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.hdf5tools.drivers.canon import canon
from tests.hdf5tools.expected import NULL, NULL_BYTES, Tree

__all__ = ["Difference", "Loose", "Outcome", "category", "compare", "form_of", "judge"]

Said = Mapping[str, Any]


@dataclass(frozen=True)
class Loose:
    """What a tool's language cannot say, whatever the file."""

    attributes: bool = False
    """It shows no attributes."""
    axes: tuple[str, ...] = ()
    """Of ``data`` and ``attrs`` it does not tell axes of length one."""
    numbers: bool = False
    """It does not tell integers from floats."""
    names: bool = False
    """Names become identifiers of the language."""


@dataclass(frozen=True)
class Difference:
    """One thing that a tool says wrongly."""

    place: str
    """Path of the object, with ``@`` and the name of an attribute."""
    saved: str
    """What was saved."""
    said: str
    """What the tool said."""


@dataclass(frozen=True)
class Outcome:
    """What came of one tool and one file."""

    differences: tuple[Difference, ...] = ()
    """All of them; none where the tool failed as a whole."""
    failure: str = ""
    """How the tool failed as a whole."""

    @property
    def is_right(self) -> bool:
        return not self.differences and not self.failure


def form_of(tree: Tree) -> dict[str, Any]:
    """Return a tree as drivers spell it."""
    found = {}
    for place, node in tree.items():
        node = node if node.link is None else tree[node.link]
        attrs = {
            name: canon(None if value is NULL or value is NULL_BYTES else value)
            for name, value in node.attrs.items()
        }
        found[place] = {"data": None if node.data is None else canon(node.data), "attrs": attrs}
    return found


def compare(saved: Said, said: Said, loose: Loose) -> tuple[Difference, ...]:
    """Return every difference, in the order of places."""
    wanted, found = (flat(objects, loose) for objects in (saved, said))
    return tuple(
        Difference(place, brief(wanted.get(place)), brief(found.get(place)))
        for place in sorted(wanted.keys() | found.keys())
        if not equal(wanted.get(place), found.get(place), place, loose)
    )


GROUP = {"kind": "group", "shape": [], "hex": ""}


def flat(objects: Said, loose: Loose) -> dict[str, Any]:
    found = {}
    for place, entry in objects.items():
        place = identifiers(place) if loose.names else place
        found[place] = entry["data"] or GROUP
        if not loose.attributes:
            found |= {f"{place}@{name}": value for name, value in entry["attrs"].items()}
    return found


def identifiers(path: str) -> str:
    """Return a path whose names are identifiers, as Octave makes them of others."""
    names = [re.sub(rb"[^A-Za-z0-9_]", b"_", name.encode()).decode() for name in path.split("/")]
    firsts = [name[:1] for name in path.split("/")]
    pairs = zip(names, firsts, strict=True)
    return "/".join("_" + name if re.match("[^A-Za-z_]", first) else name for name, first in pairs)


def equal(wanted: Any, found: Any, place: str, loose: Loose) -> bool:
    if wanted is None or found is None:
        return False
    if has_nothing(wanted) and has_nothing(found):
        # A null dataspace and an axis of no length are both nothing to most languages
        return wanted["kind"] == "empty" or same_axes(wanted, found, place, loose)
    if not same_axes(wanted, found, place, loose):
        return False
    if wanted["kind"] == found["kind"]:
        return same_elements(wanted, found, loose)
    both = {wanted["kind"], found["kind"]}
    return both == {"int", "float"} and loose.numbers and same_numbers(wanted, found)


def same_elements(wanted: Any, found: Any, loose: Loose) -> bool:
    if wanted["kind"] != "compound":
        return wanted["hex"] == found["hex"]
    fields = wanted["hex"].keys()
    pairs = [(wanted["hex"][name], found["hex"].get(name)) for name in fields]
    return fields == found["hex"].keys() and all(equal(*pair, "", loose) for pair in pairs)


def has_nothing(form: Any) -> bool:
    return form["kind"] not in ("group", "error") and (form["kind"] == "empty" or 0 in form["shape"])


def same_axes(wanted: Any, found: Any, place: str, loose: Loose) -> bool:
    part = "attrs" if "@" in place else "data"
    shapes = [form["shape"] for form in (wanted, found)]
    if part in loose.axes:
        shapes = [[length for length in shape if length != 1] for shape in shapes]
    return shapes[0] == shapes[1]


def same_numbers(wanted: Any, found: Any) -> bool:
    """Compare integers with floats, as floats."""
    numbers = [
        np.frombuffer(binascii.unhexlify(form["hex"]), "<f8" if form["kind"] == "float" else "<i8")
        for form in (wanted, found)
    ]
    return bool(np.array_equal(numbers[0].astype("<f8"), numbers[1].astype("<f8"), equal_nan=True))


def brief(form: Any) -> str:
    """Return kind, shape and the first elements of a form."""
    if form is None:
        return "nothing"
    kind, shape, data = form["kind"], form["shape"], form["hex"]
    if kind in ("error", "group", "empty"):
        return str(data or kind)
    if kind in ("int", "float"):
        letter = "q" if kind == "int" else "d"
        raw = binascii.unhexlify(data)[:24]
        first = ", ".join(f"{number:g}" for (number,) in struct.iter_unpack(f"<{letter}", raw))
    elif kind == "text":
        first = ", ".join(repr(binascii.unhexlify(item).decode("utf-8", "replace"))[:30] for item in data[:3])
    else:
        first = str(data)[:40]
    return f"{kind} {tuple(shape)} [{first}{', ...' if len(data) > 64 else ''}]"


def judge(ours: Outcome, control: Outcome | None) -> str:
    """Return ``right``, ``theirs`` or ``wrong`` of an archive, by a file of the same content made by h5py."""
    if ours.is_right:
        return "right"
    if control is None or control.is_right:
        return "wrong"
    if ours.failure or control.failure:
        return "theirs" if category(ours.failure) == category(control.failure) else "wrong"
    alike = {difference.place: category(difference.said) for difference in control.differences}
    same = all(alike.get(each.place) == category(each.said) for each in ours.differences)
    return "theirs" if same else "wrong"


def category(said: str) -> str:
    """Return the class of an error, kind and shape of a wrong value: which value it is, chance may decide."""
    return said.partition(" [")[0].partition(":")[0]

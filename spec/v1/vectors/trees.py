"""Archives whose HDF5 tree does not say what the index says: every digest and every checksum is right."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.trees import Tree, with_superblock

Made = Callable[[Tree], bytes]
Place = dict[str, Any] | None
W = "/arrays/model/w"
MODEL = "/arrays/model"


def fact(name: str, skip: int, new: bytes, path: str = W) -> Made:
    """Change what a dataset says of itself: so many bytes after the head of the message."""
    return lambda tree: tree.replaced(tree.find(path).facts[name].offset + 4 + skip, new)


def link(name: bytes, skip: int, new: bytes) -> Made:
    """Change a link of the group ``model``: so many bytes after its name begins in the message."""
    return lambda tree: tree.replaced(tree.find(MODEL).links[name].offset + 6 + 13 + skip, new)


def attribute(path: str, name: bytes, skip: int, new: bytes) -> Made:
    """Change an attribute of a group, so many bytes after its name begins."""
    return lambda tree: tree.replaced(tree.find(path).attributes[name].offset + 6 + 9 + skip, new)


def text(old: bytes, new: bytes) -> Made:
    """Change a string of the global heap."""
    return lambda tree: tree.replaced(tree.data.index(old, tree.footer.meta_at), new)


def swapped(tree: Tree) -> bytes:
    """Let two names lead to each other's datasets."""
    one, two = tree.find(MODEL).links[b"w"], tree.find(MODEL).links[b"raw"]
    first, second = one.offset + 6 + 13 + 1, two.offset + 6 + 13 + 3
    new = dict(enumerate(two.address.to_bytes(8, "little"), first))
    return tree.changed(new | dict(enumerate(one.address.to_bytes(8, "little"), second)))


def flagged(tree: Tree) -> bytes:
    """Let the superblock say that a writer has the file open."""
    return with_superblock(tree.data, tree.data[:11] + b"\1" + tree.data[12:48])


Case = tuple[str, str, str, Made, str, str, Place]
TREES: list[Case] = [
    (name, title, proves, made, "Hostile", "tree", None)
    for name, title, proves, made in (
        (
            "tree-address",
            "A dataset at another address than its row",
            "HDF5-3 VERIFY-4",
            fact("address", 2, b"\x40"),
        ),
        ("tree-length", "A dataset of another length than its row", "HDF5-3", fact("length", 10, b"\x20")),
        (
            "tree-type",
            "A dataset of another type than its row: integers for floats",
            "HDF5-3",
            fact("type", 0, b"\x10\x08\0\0"),
        ),
        (
            "tree-shape",
            "A dataset of another shape than its row",
            "HDF5-3",
            fact("shape", 4, b"\4" + bytes(7) + b"\3"),
        ),
        ("tree-name", "A link of another name than the row's key", "HDF5-1 NAME-1", link(b"w", 0, b"W")),
        ("tree-swapped", "Two names that lead to each other's datasets", "HDF5-2 HDF5-3", swapped),
        (
            "tree-string",
            "An attribute of a dataset with another text",
            "HDF5-3 HDF5-5",
            text(b"numpy.ndarray", b"numpy.ndarraY"),
        ),
        (
            "tree-value",
            "A metric that is another number as an attribute",
            "HDF5-3 VALUE-9",
            attribute("/metrics/model", b"loss", 5 + 20 + 4 + 7, b"\x40"),
        ),
        (
            "tree-links",
            "A shared dataset that counts one link more",
            "HDF5-6",
            fact("number of links", 1, b"\3", MODEL + "/raw"),
        ),
        (
            "tree-index",
            "A dataset /index that begins elsewhere",
            "HDF5-3",
            fact("address", 2, b"\0", "/index"),
        ),
        (
            "tree-structure",
            "A fill value message that no archive has",
            "HDF5-4",
            lambda tree: tree.replaced(tree.data.index(b"\5\2\0\1\3\6", tree.footer.meta_at) + 5, b"\x0a"),
        ),
        ("tree-superblock", "Consistency flags in the superblock and its copy", "HDF5-4 HDF5-7", flagged),
    )
]

"""Crafted HDF5 files, each with one thing in it that a foreign file must not have."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from archive.errors import ArchiveError, DamagedError, HostileFileError, NotAnArchiveError, TruncatedError

SECRET = b"TOP-SECRET-0123456789-abcdefghij"

Craft = Callable[[Path, Path], object]
"""Writes a file at the first path; the second is a file next to it that holds the secret."""


def external_storage(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("g/w", (len(SECRET),), "u1", external=[(str(secret), 0, len(SECRET))])


def external_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file["w"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/w")


def external_group(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("a")
        file["a/b"] = h5py.ExternalLink(str(secret.with_suffix(".h5")), "/")


def soft_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file["real"] = np.arange(3)
        file["w"] = h5py.SoftLink("/real")


def dangling_link(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file["w"] = h5py.SoftLink("/nowhere")


def virtual_dataset(path: Path, secret: Path) -> None:
    layout = h5py.VirtualLayout((len(SECRET),), "u1")
    layout[:] = h5py.VirtualSource(str(secret.with_suffix(".h5")), "w", (len(SECRET),))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("w", layout)


def group_cycle(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        group = file.create_group("a/b")
        group["c"] = file["a"]


def root_cycle(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file["again"] = file["/"]


def group_alias(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_group("a")["w"] = np.arange(3)
        file["b"] = file["a"]


def object_references(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (2,), h5py.ref_dtype)[0] = file.ref


def region_references(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        source = file.create_dataset("v", data=np.arange(5))
        file.create_dataset("w", (2,), h5py.regionref_dtype)[0] = source.regionref[1:3]


def compound_reference(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (2,), np.dtype([("x", "i4"), ("r", h5py.ref_dtype)]))


def variable_length(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (2,), h5py.vlen_dtype("i4"))[0] = [1, 2, 3]


def gzip_bomb(path: Path, secret: Path) -> None:
    chunk = 64 << 20
    blob = zlib.compress(bytes(chunk), 9)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("w", (100 * chunk,), "u1", chunks=(chunk,), compression="gzip")
        for at in range(100):
            data.id.write_direct_chunk((at * chunk,), blob)


def many_bombs(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        for at in range(20):
            file.create_dataset(f"w{at}", (1 << 30,), "u1", chunks=(1 << 20,))


def shape_bomb(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (1 << 55,), "f4", chunks=(1 << 20,))


def contiguous_shape_bomb(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (1 << 55,), "f4")


def string_bomb(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("w", (100_000,), h5py.string_dtype())
        data[0] = "x" * 1_000_000


def nested_groups(path: Path, secret: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        group = file
        for _ in range(5000):
            group = group.create_group("g")


def many_attributes(path: Path, secret: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset("w", data=np.arange(3))
        for at in range(65_000):
            h5py.h5a.create(data.id, b"%d" % at, h5py.h5t.NATIVE_INT8, h5py.h5s.create(h5py.h5s.SCALAR))


def huge_attribute(path: Path, secret: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file.attrs["huge"] = np.zeros(80 << 20, "u1")


def user_block(path: Path, secret: Path) -> None:
    with h5py.File(path, "w", userblock_size=512) as file:
        file["w"] = np.arange(3)


def base_address(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file["w"] = np.arange(3)
    data = bytearray(path.read_bytes())
    data[24:32] = (512).to_bytes(8, "little")
    path.write_bytes(data)


def unknown_filter(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((4,))
        plist.set_filter(32_015, h5py.h5z.FLAG_OPTIONAL, (3,))
        h5py.h5d.create(file.id, b"w", h5py.h5t.NATIVE_INT32, h5py.h5s.create_simple((16,)), plist)


def truncated(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file["w"] = np.arange(1000)
    os.truncate(path, path.stat().st_size - 100)


def random_bytes(path: Path, secret: Path) -> None:
    noise = np.random.default_rng(1).bytes(10_000)
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + noise)


def random_body(path: Path, secret: Path) -> None:
    with h5py.File(path, "w", libver="latest") as file:
        file["w"] = np.arange(1000)
    data = bytearray(path.read_bytes())
    data[48:1000] = np.random.default_rng(2).bytes(952)
    path.write_bytes(data)


def no_hdf5(path: Path, secret: Path) -> None:
    path.write_bytes(SECRET * 100)


def empty_file(path: Path, secret: Path) -> None:
    path.write_bytes(b"")


def renamed(path: Path, name: bytes) -> None:
    """Give the only dataset of a file a name that h5py would not write, and fix the checksum up."""
    spelled = b"X" * len(name)
    with h5py.File(path, "w", libver="latest") as file:
        file.create_dataset(spelled, data=np.arange(3))
    data = path.read_bytes()
    at = data.index(spelled)
    start = data.rindex(b"OHDR", 0, at)
    patched = bytearray(data.replace(spelled, name))
    # the header's own checksum is its last four bytes: found by trying
    for stop in range(at + len(name), len(patched) - 3):
        if h5_lookup3(data[start:stop]) == int.from_bytes(data[stop : stop + 4], "little"):
            patched[stop : stop + 4] = h5_lookup3(bytes(patched[start:stop])).to_bytes(4, "little")
            path.write_bytes(patched)
            return
    raise AssertionError("no checksum found")


def slash_in_name(path: Path, secret: Path) -> None:
    """A link named ``a/w`` would be opened through ``a``, whose own link nobody judged."""
    renamed(path, b"a/w")


def parent_in_name(path: Path, secret: Path) -> None:
    renamed(path, b"../secret")


def absolute_name(path: Path, secret: Path) -> None:
    renamed(path, b"/etc/passwd")


def dot_name(path: Path, secret: Path) -> None:
    renamed(path, b".")


def name_that_is_no_text(path: Path, secret: Path) -> None:
    renamed(path, b"\xff\xfe\xfd")


def soft_cycle(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file["a"], file["b"] = h5py.SoftLink("/b"), h5py.SoftLink("/a")


def external_cycle(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file["w"] = h5py.ExternalLink(path.name, "/w")


def virtual_cycle(path: Path, secret: Path) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(".", "w", (4,))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("w", layout)


def array_bomb(path: Path, secret: Path) -> None:
    """One element, of an array type of half a terabyte."""
    with h5py.File(path, "w") as file:
        kind = h5py.h5t.array_create(h5py.h5t.NATIVE_DOUBLE, (1 << 18, 1 << 18))
        h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((1,)))


def nested_compounds(path: Path, secret: Path) -> None:
    """Types inside one another: deeper than Python recurses, were nobody to count."""
    kind = h5py.h5t.NATIVE_INT32
    for _ in range(300):
        outer = h5py.h5t.create(h5py.h5t.COMPOUND, kind.get_size())
        outer.insert(b"a", 0, kind)
        kind = outer
    with h5py.File(path, "w", libver="latest") as file:
        h5py.h5d.create(file.id, b"w", kind, h5py.h5s.create_simple((1,)))


def shared_strings(path: Path, secret: Path) -> None:
    """65,536 strings that are all the same 100 KB of the heap: 6.5 GB, once read."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset("w", (65_536,), h5py.string_dtype(), chunks=(65_536,))
        data[0] = "x" * 100_000
        _, chunk = data.id.read_direct_chunk((0,))
        data.id.write_direct_chunk((0,), chunk[:16] * 65_536)


def shared_strings_of_an_attribute(path: Path, secret: Path) -> None:
    """3,000 strings of an attribute that are all the same megabyte."""
    text = "x" * 1_000_000
    with h5py.File(path, "w") as file:
        file.create_group("g").attrs["texts"] = [text] + [f"{n:05}" for n in range(2999)]
    data = path.read_bytes()
    at = data.index(len(text).to_bytes(4, "little"))
    while int.from_bytes(data[at + 16 : at + 20], "little") != 5:
        at = data.index(len(text).to_bytes(4, "little"), at + 1)
    path.write_bytes(data[:at] + data[at : at + 16] * 3000 + data[at + 16 * 3000 :])


def vlen_of_references(path: Path, secret: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("w", (2,), h5py.vlen_dtype(h5py.ref_dtype))


def filters_in_a_row(path: Path, secret: Path) -> None:
    """gzip of gzip of gzip: 4 TB from some KB."""
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((1 << 26,))
        for _ in range(3):
            plist.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
        space = h5py.h5s.create_simple((1 << 42,))
        data = h5py.h5d.create(file.id, b"w", h5py.h5t.NATIVE_UINT8, space, plist)
        blob = bytes(1 << 26)
        for _ in range(3):
            blob = zlib.compress(blob, 1)
        for at in range(3):
            data.write_direct_chunk((at << 26,), blob)


def dataset_attributes(path: Path, secret: Path) -> None:
    """A dataset with 5,000 attributes, where an archive writes 7."""
    with h5py.File(path, "w", libver="latest") as file:
        data = file.create_dataset("g/w", data=np.arange(3))
        for at in range(5000):
            h5py.h5a.create(data.id, b"%d" % at, h5py.h5t.NATIVE_INT8, h5py.h5s.create(h5py.h5s.SCALAR))


def h5_lookup3(data: bytes) -> int:
    """Return HDF5's metadata checksum."""
    from numcodecs.jenkins import jenkins_lookup3

    return int(jenkins_lookup3(data))


HOSTILE: dict[Craft, type[ArchiveError]] = {
    **dict.fromkeys(
        (
            external_storage,
            external_link,
            external_group,
            soft_link,
            dangling_link,
            virtual_dataset,
            group_cycle,
            root_cycle,
            group_alias,
            object_references,
            region_references,
            compound_reference,
            variable_length,
            gzip_bomb,
            many_bombs,
            shape_bomb,
            contiguous_shape_bomb,
            string_bomb,
            nested_groups,
            many_attributes,
            huge_attribute,
            base_address,
            user_block,
            unknown_filter,
            random_bytes,
            slash_in_name,
            parent_in_name,
            absolute_name,
            dot_name,
            name_that_is_no_text,
            soft_cycle,
            external_cycle,
            virtual_cycle,
            nested_compounds,
            shared_strings,
            vlen_of_references,
            filters_in_a_row,
            dataset_attributes,
        ),
        HostileFileError,
    ),
    truncated: TruncatedError,
    random_body: DamagedError,
    array_bomb: DamagedError,
    shared_strings_of_an_attribute: DamagedError,
    no_hdf5: NotAnArchiveError,
    empty_file: NotAnArchiveError,
}


def make(craft: Craft, folder: Path) -> Path:
    """Write a crafted file, and the files with the secret that it points at."""
    secret = folder / "secret.bin"
    secret.write_bytes(SECRET)
    with h5py.File(folder / "secret.h5", "w") as file:
        file["w"] = np.frombuffer(SECRET, "u1")
    path = folder / "hostile.h5"
    craft(path, secret)
    return path

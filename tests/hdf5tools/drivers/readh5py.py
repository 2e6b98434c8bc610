"""h5py, from 2.7 on."""

import h5py

from tests.hdf5tools.drivers.canon import run, tried, tried_attributes


def value(found):
    """Return None of a null dataspace."""
    return None if isinstance(found, getattr(h5py, "Empty", ())) else found


def attribute(item, name):
    """Read one attribute; h5py before 2.8 cannot read a null dataspace of numbers by subscription."""
    return value(item.attrs[name])


def walk(group, path, found):
    for name in group:
        place, item = path + "/" + name, group[name]
        found[place] = {
            "data": None if isinstance(item, h5py.Group) else tried(lambda item=item: value(item[()])),
            "attrs": tried_attributes(list(item.attrs), lambda name, item=item: attribute(item, name)),
        }
        if isinstance(item, h5py.Group):
            walk(item, place, found)


def read(path):
    with h5py.File(path, "r") as file:
        found = {"/": {"data": None, "attrs": tried_attributes(list(file.attrs), file.attrs.__getitem__)}}
        walk(file, "", found)
    return found


def versions():
    return {"tool": h5py.version.version, "hdf5": h5py.version.hdf5_version}


if __name__ == "__main__":
    run(versions, read)

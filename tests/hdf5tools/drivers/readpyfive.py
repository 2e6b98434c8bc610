"""pyfive, HDF5 in Python alone."""

import pyfive

from tests.hdf5tools.drivers.canon import RAISED, failed, run, tried, tried_attributes


def value(found):
    return None if type(found).__name__ == "Empty" else found


def entry(item):
    is_group = isinstance(item, pyfive.Group)
    return {
        "data": None if is_group else tried(lambda: value(item[()])),
        "attrs": tried_attributes(list(item.attrs), lambda name: value(item.attrs[name])),
    }


def walk(group, path, found):
    for name in group:
        place = path + "/" + name
        try:
            item = group[name]
        except RAISED as error:
            found[place] = failed(error)
            continue
        found[place] = entry(item)
        if isinstance(item, pyfive.Group):
            walk(item, place, found)


def read(path):
    with pyfive.File(path) as file:
        found = {"/": entry(file)}
        walk(file, "", found)
    return found


def versions():
    return {"tool": pyfive.__version__, "hdf5": "none"}


if __name__ == "__main__":
    run(versions, read)

"""PyTables."""

import tables

from tests.hdf5tools.drivers.canon import run, tried, tried_attributes


def elements(item):
    """Read a leaf; one of a type that PyTables does not know cannot be read."""
    return item.read()


def entry(item):
    is_group = isinstance(item, tables.Group)
    attrs = item._v_attrs
    return {
        "data": None if is_group else tried(lambda: elements(item)),
        "attrs": tried_attributes(attrs._f_list("all"), attrs.__getitem__),
    }


def walk(group, path, found):
    for name in group._v_children:
        place, item = path + "/" + name, group._v_children[name]
        found[place] = entry(item)
        if isinstance(item, tables.Group):
            walk(item, place, found)


def read(path):
    with tables.open_file(path) as file:
        found = {"/": entry(file.root)}
        walk(file.root, "", found)
    return found


def versions():
    return {"tool": tables.__version__, "hdf5": tables.hdf5_version}


if __name__ == "__main__":
    run(versions, read)

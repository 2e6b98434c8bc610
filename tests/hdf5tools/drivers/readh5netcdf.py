"""h5netcdf, on h5py."""

import h5netcdf
import h5py

from tests.hdf5tools.drivers.canon import run, tried, tried_attributes


def value(found):
    return None if isinstance(found, h5py.Empty) else found


def entry(item):
    is_group = isinstance(item, h5netcdf.Group)
    return {
        "data": None if is_group else tried(lambda: item[...]),
        "attrs": tried_attributes(list(item.attrs), lambda name: value(item.attrs[name])),
    }


def walk(group, path, found):
    for name in list(group.variables):
        found[path + "/" + name] = entry(group.variables[name])
    for name in list(group.groups):
        item = group.groups[name]
        found[path + "/" + name] = entry(item)
        walk(item, path + "/" + name, found)


def read(path):
    with h5netcdf.File(path, "r", phony_dims="sort") as file:
        found = {"/": entry(file)}
        walk(file, "", found)
    return found


def versions():
    return {"tool": h5netcdf.__version__, "hdf5": h5py.version.hdf5_version}


if __name__ == "__main__":
    run(versions, read)

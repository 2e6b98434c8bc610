"""netCDF4, on libnetcdf."""

import netCDF4

from tests.hdf5tools.drivers.canon import run, tried, tried_attributes


def entry(item):
    is_group = isinstance(item, netCDF4.Dataset)
    return {
        "data": None if is_group else tried(lambda: item[...]),
        "attrs": tried_attributes(item.ncattrs(), item.getncattr),
    }


def walk(group, path, found):
    for name, item in group.variables.items():
        item.set_auto_maskandscale(False)
        item.set_auto_chartostring(False)
        found[path + "/" + name] = entry(item)
    for name, item in group.groups.items():
        found[path + "/" + name] = entry(item)
        walk(item, path + "/" + name, found)


def read(path):
    with netCDF4.Dataset(path) as file:
        found = {"/": entry(file)}
        walk(file, "", found)
    return found


def versions():
    return {"tool": netCDF4.__version__, "hdf5": netCDF4.__hdf5libversion__}


if __name__ == "__main__":
    run(versions, read)

"""xarray, every group of a file at once, by its engine h5netcdf."""

import h5py
import xarray

from tests.hdf5tools.drivers.canon import run, tried, tried_attributes


def entry(item, attrs, is_group):
    return {
        "data": None if is_group else tried(lambda: item.values),
        "attrs": tried_attributes(list(attrs), attrs.__getitem__),
    }


def read_by(path, engine, **options):
    """Return every object, with attributes as they are in the file: nothing is decoded by conventions."""
    found = {}
    groups = xarray.open_groups(path, engine=engine, decode_cf=False, **options)
    for place, dataset in groups.items():
        found[place] = entry(dataset, dataset.attrs, True)
        for name, variable in dataset.variables.items():
            found[place.rstrip("/") + "/" + name] = entry(variable, variable.attrs, False)
    return found


def read(path):
    return read_by(path, "h5netcdf", phony_dims="sort")


def versions():
    return {"tool": xarray.__version__, "hdf5": h5py.version.hdf5_version}


if __name__ == "__main__":
    run(versions, read)

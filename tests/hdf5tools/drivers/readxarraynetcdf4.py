"""xarray, every group of a file at once, by its engine netcdf4."""

import netCDF4
import xarray

from tests.hdf5tools.drivers.canon import run
from tests.hdf5tools.drivers.readxarray import read_by


def read(path):
    return read_by(path, "netcdf4")


def versions():
    return {"tool": xarray.__version__, "hdf5": netCDF4.__hdf5libversion__}


if __name__ == "__main__":
    run(versions, read)

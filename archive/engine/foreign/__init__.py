"""HDF5 files that are not archives: a guarded child process lists them, nothing is verified."""

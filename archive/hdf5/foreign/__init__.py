"""Reads foreign HDF5 files through h5py, in a process of its own.

libhdf5 "is not designed to handle maliciously crafted files safely" (its own security page): a crash, a loop
or a bomb ends the child process and not the caller's. Only this room imports h5py, and only in the child::

    child            the process: one file in, one listing out
    walk             groups and datasets of the file
    attributevalues  attributes as values         elementtypes  element types as numpy reads them
    sandbox          limits that the process sets on itself, and the file that it decodes into
    guards           rules that need no libhdf5; the parent applies some of them too
"""

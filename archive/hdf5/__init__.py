"""HDF5 structures to bytes: an encoder in numpy, without libhdf5.

Floors, each importing only from those below it::

    encoder          the metadata region of a file, and its superblock
    datasets         object headers of many datasets at once     groups  links, compact or dense
    globalheap       strings                                     fractalheap, btree  dense links
    messages         header messages and headers
    datatypes        element types                               checksum  lookup3

Nothing here opens a file. Structures and section numbers: HDF Group, "HDF5 File Format Specification"
version 3.0; where it is ambiguous, files that h5py wrote decided.
"""

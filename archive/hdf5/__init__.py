"""HDF5 structures to bytes and back: an encoder in numpy and a bounded parser of what it writes, no libhdf5.

Floors, each importing only from those below it::

    encoder          the metadata region of a file, and its superblock
    datasets         object headers of many datasets at once     groups  links, compact or dense
    globalheap       strings                                     fractalheap, btree  dense links
    messages         header messages and headers
    datatypes        element types                               checksum  lookup3

    objectheaders    datasets and groups as they are read, over the encoder's modules, with which they compare
    denselinks       their links                                 region    bytes, each taken once; strings

Nothing here opens a file. Structures and section numbers: HDF Group, "HDF5 File Format Specification"
version 3.0; where it is ambiguous, files that h5py wrote decided.
"""

"""How records meet bytes.

``write`` saves: from what callers hand over to a published file. ``read`` opens, loads and scans archives.
``foreign`` reads other HDF5 files through a process of its own. ``storagespec`` is how one array is stored;
``report`` and ``progress`` are what callers get back.
"""

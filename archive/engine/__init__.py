"""How records meet bytes: inputs, plans, streams, saving, handles, loading, verifying.

In: ``inputs`` (what callers hand to `save`), ``forms`` (what a stored array looks like), ``values``
(metrics and configs), ``rows`` and ``plan`` (every address before the first byte), ``tree`` (the HDF5 side
of a plan), ``writer`` (bytes and digests), ``stream`` and ``create`` (arrays that come one by one),
``consume`` and ``saving`` (from inputs to a published file). Out: ``reader`` and ``check`` (stored bytes,
verified), ``payload`` (arrays still in the file), ``containers`` and ``archive`` (the handle), ``load``,
``verify``, ``mean``; ``foreign``, ``listing`` and ``stored`` for other HDF5 files.
"""

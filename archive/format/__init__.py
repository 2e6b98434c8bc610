"""What the bytes of an archive mean. Pure: nothing here opens a file.

Modules, lowest first: ``constants`` (numbers of the specification), ``names`` (link names),
``values`` (metrics and configs as JSON), ``elements`` (how an element type is stored), ``layout``
(where bytes go), ``digests``, ``sections``, ``indexwriter`` and
``index`` (the packed tables), ``footer`` (the file's last bytes), ``validation`` (what is refused).
The normative text is ``spec/v1/format.md``.
"""

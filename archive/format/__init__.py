"""The bytes of an archive and their meaning. Nothing here opens a file.

Modules, lowest first: ``constants`` (numbers of the specification), ``versions`` (content of later versions),
``names`` (link names), ``document`` (JSON), ``values`` (metrics and configs), ``elements`` (how an element
type is stored), ``layout`` (offsets), ``digests``, ``footer``, ``index`` and ``indexwriter`` (the packed
tables), ``segments``, ``validation`` (rules that an index must keep). The normative text is
``spec/v1/format.md``.
"""

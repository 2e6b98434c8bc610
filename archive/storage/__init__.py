"""Bytes in and out: sources that are read, sinks that publish a file whole or not at all.

Nothing here knows what the bytes mean. ``url`` (which storage a URL names), ``filesystem`` (what a path
lies on); ``source`` (the Protocol, maps and preads), ``maps`` (private memory maps), ``splice`` (two
files as one); ``sink`` (atomic, durable publishing), ``slots`` (its temporary names), ``partial`` and
``journal`` (saves that consume their input).
"""

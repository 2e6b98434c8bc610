"""FL4Health: its state checkpointers, with archives in the place of pickles, and one round for everybody.

================  ==================================================================
``serverstate``   `ServerStateCheckpointer`: a server's state after every round
``clientstate``   `ClientStateCheckpointer` and `ResumableClient`: that of a client
``exchange``      `PartialExchanger`, for servers that exchange parts of a model
================  ==================================================================

Below these: ``snapshots`` (the state of one object), ``objectstate`` (attributes as plain values and back),
``instructions`` (what messages say of the run) and ``statefiles`` (files by round and attempt).

FL4Health's strategies are made resumable by `archive.interop.flower.Resumable` too; clients are the same
with it. Needs FL4Health 0.4: ``pip install fedarchive fl4health``, under Python 3.10.
"""

from __future__ import annotations

from archive.interop.fl4health.clientstate import ClientStateCheckpointer, ResumableClient
from archive.interop.fl4health.exchange import PartialExchanger
from archive.interop.fl4health.serverstate import ServerStateCheckpointer

__all__ = ["ClientStateCheckpointer", "PartialExchanger", "ResumableClient", "ServerStateCheckpointer"]

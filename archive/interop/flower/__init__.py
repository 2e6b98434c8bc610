"""Flower: strategies that resume, clients whose state survives, and records as Flower's own objects.

===============  ====================================================================
``resumable``    `Resumable`: a strategy that saves every round and goes on after a crash
``streaming``    `Streaming`: a FedAvg that adds replies up as they come
``nodestate``    `persist_state`: the mod that keeps a client's ``Context.state``
``records``      `to_flower` and its reverse
===============  ====================================================================

Below these: ``messagebased`` and ``legacy`` (Flower's two APIs), ``resumption`` (one attempt of a run) with
``settings`` (what must be true before it), ``results`` (metrics of rounds that are done) and ``participants``
(its nodes), ``orders`` and ``letters`` (what server and clients tell each other, and how messages carry it),
``roundstate`` (the content of a round file), ``runstore`` and ``contexts`` (files), ``appfolder`` (paths
inside an app), ``startarguments`` (what a strategy's ``start`` was called with), ``replysums`` and
``gridpulls`` (the sum of a round, and how its replies are pulled),
``strategystate``, ``strategycapture``, ``strategytrees``, ``strategyobjects``,
``strategyvalues`` and ``randomness`` (a strategy's state as JSON and named arrays), ``arrays`` and
``releases`` (Flower's own classes). Which states an attempt may go on from is decided in
`archive.checkpoints.lineage`. flwr is imported when it is first needed.

Needs flwr 1.17 or newer: ``pip install 'fedarchive[flower]'``.
"""

from __future__ import annotations

from archive.interop.flower.nodestate import persist_state
from archive.interop.flower.records import to_flower
from archive.interop.flower.resumable import Resumable
from archive.interop.flower.strategystate import SchemaError
from archive.interop.flower.streaming import Streaming

__all__ = ["Resumable", "SchemaError", "Streaming", "persist_state", "to_flower"]

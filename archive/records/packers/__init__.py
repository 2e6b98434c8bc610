"""Parameter packers: one list of ndarrays for weights and additional parameters, and records of it by name.

===============  ==============================================================
``base``         ``ParameterPacker``, the class to derive packers from
``lists``        parsing of the parts of a packed list
``named``        records by role: attributes, names, and the search for them
``variates``     weights and control variates (SCAFFOLD)
``scalar``       weights and one number (clipping, adaptive constraints)
``layernames``   weights and their names (dynamic layer exchange)
``sparse``       values, indices, shapes and names of sparse tensors
``coordinates``  one sparse tensor as a record, readable as binsparse
===============  ==============================================================
"""

from __future__ import annotations

from archive.records.packers.base import ParameterPacker
from archive.records.packers.layernames import ParameterPackerWithLayerNames
from archive.records.packers.scalar import ParameterPackerAdaptiveConstraint, ParameterPackerWithClippingBit
from archive.records.packers.sparse import SparseCooParameterPacker
from archive.records.packers.variates import ParameterPackerWithControlVariates

__all__ = [
    "ParameterPacker",
    "ParameterPackerAdaptiveConstraint",
    "ParameterPackerWithClippingBit",
    "ParameterPackerWithControlVariates",
    "ParameterPackerWithLayerNames",
    "SparseCooParameterPacker",
]

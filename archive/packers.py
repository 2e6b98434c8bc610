"""Parameter packers: FL4Health's lists of weights and additional parameters, and records of them by name.

A packer puts weights and additional parameters into the one list of ndarrays that a federated round sends.
``to_records`` gives every part of such a list a name, so that an archive shows
``control_variates/conv1.weight`` and not array 17 of 34; ``from_records`` returns the same list,
byte for byte as ``np.save`` writes it.

Examples
--------
>>> import archive, numpy as np
>>> from archive.packers import ParameterPackerWithControlVariates
>>> packer = ParameterPackerWithControlVariates(size_of_model_params=1)
>>> packed = packer.pack_parameters([np.zeros((2, 2))], [np.ones((2, 2))])
>>> report = archive.save(packer.to_records(packed), "/tmp/fedarchive-packers-doctest.h5")
>>> with archive.open("/tmp/fedarchive-packers-doctest.h5") as a:
...     weights, variates = packer.unpack_parameters(packer.from_records(a.records))
>>> variates
[array([[1., 1.],
       [1., 1.]])]
"""

from __future__ import annotations

from archive.records.packers import (
    ParameterPacker,
    ParameterPackerAdaptiveConstraint,
    ParameterPackerWithClippingBit,
    ParameterPackerWithControlVariates,
    ParameterPackerWithLayerNames,
    SparseCooParameterPacker,
)

__all__ = [
    "ParameterPacker",
    "ParameterPackerAdaptiveConstraint",
    "ParameterPackerWithClippingBit",
    "ParameterPackerWithControlVariates",
    "ParameterPackerWithLayerNames",
    "SparseCooParameterPacker",
]

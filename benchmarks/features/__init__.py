"""What libraries do beside being fast: damage, kills, element types, ties, equal bytes, hostile files.

``python -m benchmarks.features --out benchmarks/results/features`` asks each library, in processes of its
own, and writes what came of it with date and versions. docs/comparison.md quotes it. A library that is
missing is left out: ``pip install '.[bench]' icechunk orbax-checkpoint keras`` brings all.
"""

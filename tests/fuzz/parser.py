"""The atheris target: ``python -m tests.fuzz.parser [libFuzzer's options] NEW SEEDS``, see ``poe fuzz``.

atheris is in no extra of this project: it has wheels for some Pythons only (3.11 to 3.13 with 3.0.0).
``pip install atheris`` beside the project, in an environment of its own, is all it takes. What the fuzzer
runs is in `tests.fuzz.target`; ``tests/fuzz/test_corpus.py`` replays corpus and regressions without it.
"""

from __future__ import annotations

import random
import resource
import sys
from pathlib import Path

import atheris

ADDRESS_SPACE = 4 << 30
"""More is a MemoryError, which is none of ours."""

with atheris.instrument_imports(include=["archive"]):
    from tests.fuzz.seeds import seeds
    from tests.fuzz.target import judge

SEEDS = [data for _, data in seeds()]
INTERESTING = (
    0,
    1,
    2,
    7,
    8,
    63,
    64,
    255,
    4096,
    65535,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 62,
    1 << 63,
)


def mutate(data: bytes, max_size: int, seed: int) -> bytes:
    """Change an input, or one of the seeds: what a seed covers others cover too, so that it is forgotten."""
    chance = random.Random(seed)
    made = bytearray(data if chance.random() < 0.7 else chance.choice(SEEDS))
    if len(made) > 64 and chance.random() < 0.3:
        width = chance.choice((4, 8))
        at = 2 + chance.randrange((len(made) - 2) // width) * width
        number = chance.choice(INTERESTING) + chance.randrange(-1, 2)
        made[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
    if chance.random() < 0.8:
        made = bytearray(atheris.Mutate(bytes(made), max_size))
    return bytes(made[:max_size])


def main() -> None:
    """Fuzz until libFuzzer's options say stop."""
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    for folder in [argument for argument in sys.argv[1:] if not argument.startswith("-")][:1]:
        Path(folder).mkdir(parents=True, exist_ok=True)  # libFuzzer keeps what it learns in the first
    atheris.Setup(sys.argv, judge, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()

"""What each library is asked. An answer is a short text, the same for equal outcomes."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.features.libraries import LIBRARIES, Library

__all__ = ["QUESTIONS", "killed_child"]

NDArray = np.ndarray[Any, Any]
FLIPS = 10
KILLS = 8
_SETTLE_SECONDS = 0.2


def damaged(library: Library, folder: Path) -> str:
    """Flip one bit in the bytes of an array, and load everything as by default."""
    arrays = _arrays(8, 1 << 16, seed=1)
    path = folder / "model"
    library.save(arrays, path)
    answers: Counter[str] = Counter()
    for number in range(FLIPS):
        file, at = _place(folder, arrays[f"layer{number % 8}"], number)
        good = file.read_bytes()
        bad = bytearray(good)
        bad[at] ^= 0x10
        file.write_bytes(bad)
        answers[_outcome(library, path, arrays)] += 1
        file.write_bytes(good)
    assert _outcome(library, path, arrays) == "right", "undamaged again"
    return _counts(answers)


def bfloat16(library: Library, folder: Path) -> str:
    """Save a bfloat16 array and load it: type and bits."""
    ml_dtypes = importlib.import_module("ml_dtypes")
    saved = np.arange(64, dtype=np.float32).astype(ml_dtypes.bfloat16).reshape(8, 8)
    try:
        library.save({"w": saved}, folder / "model")
        found = np.asarray(library.load(folder / "model")["w"])
    except Exception as error:  # noqa: BLE001 each library has errors of its own
        return f"refused ({type(error).__name__})"
    if found.dtype == saved.dtype:
        return "comes back" if found.tobytes() == saved.tobytes() else "other values"
    return f"comes back as {found.dtype.name}"


def killed_new(library: Library, folder: Path) -> str:
    """Kill a process that saves where nothing was, and load what is there."""
    return _killed(library, folder, replace=False)


def killed_over(library: Library, folder: Path) -> str:
    """Kill a process that saves over an older model, and load what is there."""
    return _killed(library, folder, replace=True)


def tied(library: Library, folder: Path) -> str:
    """Save one array under two names: how often are its bytes stored?"""
    array = _arrays(1, 1 << 20, seed=2)["layer0"]
    try:
        library.save({"a": array, "b": array}, folder / "model")
    except Exception as error:  # noqa: BLE001 as above
        return f"refused ({type(error).__name__})"
    total = sum(file.stat().st_size for file in _files(folder))
    return "once" if total < 1.5 * array.nbytes else "twice"


def equal_bytes(library: Library, folder: Path) -> str:
    """Save the same twice, more than a second apart: are the files equal?"""
    arrays = _arrays(4, 1 << 12, seed=3)
    digests = []
    for name in ("first", "second"):
        made = folder / name
        made.mkdir()
        library.save(arrays, made / "model")
        paths = {file.relative_to(made).as_posix(): file.read_bytes() for file in _files(made)}
        digests.append({path: hashlib.sha256(content).hexdigest() for path, content in paths.items()})
        time.sleep(1.2)
    return "yes" if digests[0] == digests[1] else "no"


def hostile(library: Library, folder: Path) -> str:
    """Load a file that holds a pickle which runs code."""
    if library.hostile is None:
        return "no pickles"
    mark = folder / "mark"
    library.hostile(_Canary(mark), folder / "model")
    with contextlib.suppress(Exception):
        library.load(folder / "model")
    return "RUNS CODE" if mark.exists() else "refused"


QUESTIONS: dict[str, tuple[str, Callable[[Library, Path], str]]] = {
    "damaged": (f"{FLIPS} flipped bits of arrays, loaded as by default", damaged),
    "killed-new": (f"{KILLS} killed saves where nothing was", killed_new),
    "killed-over": (f"{KILLS} killed saves over an older model", killed_over),
    "bfloat16": ("a bfloat16 array of numpy or torch", bfloat16),
    "tied": ("one array under two names is stored", tied),
    "equal": ("equal input gives equal bytes", equal_bytes),
    "hostile": ("a pickle that runs code, loaded as by default", hostile),
}
"""Title and function of each question."""


class _Canary:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.mark,))


def _arrays(count: int, elements: int, seed: int) -> dict[str, NDArray]:
    """Return arrays of random bits that are no NaN: nothing compresses them."""
    random = np.random.default_rng(seed)
    return {f"layer{number}": random.random(elements, dtype="f4") for number in range(count)}


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix != ".shapes")


def _place(folder: Path, array: NDArray, number: int) -> tuple[Path, int]:
    """Return a file and the offset in it of a byte of an array; where it is encoded, of the largest file."""
    content = array.tobytes()
    part = (number + 1) * len(content) // (FLIPS + 2)
    for file in _files(folder):
        at = file.read_bytes().find(content[part : part + 48])
        if at >= 0:
            return file, at + 20
    largest = max(_files(folder), key=lambda file: file.stat().st_size)
    return largest, (number + 1) * largest.stat().st_size // (FLIPS + 2)


def _outcome(library: Library, path: Path, *models: Mapping[str, NDArray]) -> str:
    """Load, and say which of some models it is."""
    try:
        found = library.load(path)
        for word, model in zip(("right", "old"), models, strict=False):
            if found.keys() == model.keys() and all(
                np.array_equal(np.asarray(found[key]), model[key]) for key in model
            ):
                return word
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException:  # noqa: BLE001 each library has errors of its own; those of torch DCP are no Exception
        return "error"
    return "WRONG VALUES"


def _counts(answers: Counter[str]) -> str:
    return ", ".join(f"{count} {answer}" for answer, count in sorted(answers.items()))


def _killed(library: Library, folder: Path, *, replace: bool) -> str:
    old, new = _arrays(16, 1 << 20, seed=4), _arrays(16, 1 << 20, seed=5)
    seconds = _child(library, folder / "timed", kill_after=None, replace=replace)
    answers: Counter[str] = Counter()
    for number in range(KILLS):
        made = folder / str(number)
        _child(library, made, kill_after=seconds * (number + 0.5) / KILLS, replace=replace)
        answers[_outcome(library, made / "model", new, old).replace("right", "new")] += 1
        shutil.rmtree(made)
    return _counts(answers)


def _child(library: Library, folder: Path, *, kill_after: float | None, replace: bool) -> float:
    """Save in another process, which is killed after some seconds, or return how long it took."""
    folder.mkdir()
    words = [
        sys.executable,
        "-m",
        "benchmarks.features",
        "--child",
        library.name,
        str(folder),
        str(int(replace)),
    ]
    with subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as child:
        assert child.stdin is not None
        _await(child, "ready")
        begun = time.perf_counter()
        child.stdin.write("go\n")
        child.stdin.flush()
        if kill_after is None:
            _await(child, "saved")
        else:
            time.sleep(kill_after)
            child.send_signal(signal.SIGKILL)
        taken = time.perf_counter() - begun
    time.sleep(_SETTLE_SECONDS)
    return taken


def _await(child: subprocess.Popen[str], word: str) -> None:
    """Wait until a child says a word; libraries print before it."""
    assert child.stdout is not None
    assert any(line == f"{word}\n" for line in iter(child.stdout.readline, "")), f"it never said {word}"


def killed_child(name: str, folder: Path, replace: bool) -> None:
    """Be the process that is killed: warm up, wait, save."""
    library = LIBRARIES[name]
    old, new = _arrays(16, 1 << 20, seed=4), _arrays(16, 1 << 20, seed=5)
    with_old = folder / "model" if replace else folder.with_name(f"warm-{folder.name}")
    library.save(old, with_old)
    print("ready", flush=True)
    sys.stdin.readline()
    library.save(new, folder / "model")
    print("saved", flush=True)

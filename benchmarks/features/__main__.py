"""The command: ``python -m benchmarks.features``."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.features.libraries import LIBRARIES
from benchmarks.features.page import as_markdown
from benchmarks.features.questions import QUESTIONS, killed_child
from benchmarks.machine import machine_facts, versions

_SECONDS = 1800


def main() -> int:
    """Ask, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="writes OUT.json and OUT.md")
    parser.add_argument("--library", nargs="*", default=list(LIBRARIES))
    parser.add_argument("--question", nargs="*", default=list(QUESTIONS))
    parser.add_argument(
        "--add", action="store_true", help="keeps the answers that OUT.json has to other questions"
    )
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        killed_child(options.child[0], Path(options.child[1]), options.child[2] == "1")
        return 0
    if options.one:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            print("answer:", QUESTIONS[options.one[1]][1](LIBRARIES[options.one[0]], Path(folder)))
        return 0
    found: dict[str, Any] = {
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine_facts(Path(tempfile.gettempdir())),
        "versions": versions(*{name for library in LIBRARIES.values() for name in library.distributions}),
        "answers": {},
    }
    if options.add and options.out:
        found["answers"] = json.loads(options.out.with_suffix(".json").read_text())["answers"]
    for question in options.question:
        answers = found["answers"].setdefault(question, {})
        for library in options.library:
            answers[library] = _ask(library, question)
            print(f"{question}, {library}: {answers[library]}", flush=True)
    if options.out:
        options.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")
        options.out.with_suffix(".md").write_text(as_markdown(found))
    return 0


def _ask(library: str, question: str) -> str:
    if find_spec(LIBRARIES[library].module) is None:
        return "not installed"
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.features", "--one", library, question],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    answers = [line for line in done.stdout.splitlines() if line.startswith("answer: ")]
    if not answers:
        print(done.stderr[-2000:], file=sys.stderr)
        return "failed"
    return answers[-1].removeprefix("answer: ")


if __name__ == "__main__":
    sys.exit(main())

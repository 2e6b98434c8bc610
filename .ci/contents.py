"""What the distributions must and must not contain: ``python .ci/contents.py SDIST WHEEL``."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

TESTING = {"__init__.py", "strategies.py", "vectors.py"}
"""All of `archive.testing`; a helper of our own tests belongs to tests/."""
ADDED = {"PKG-INFO"}
"""What the sdist has and git has not."""


def read_sdist(path: Path) -> dict[str, bytes]:
    """Return the files of an sdist by their paths below its one folder."""
    with tarfile.open(path) as sdist:
        files = {member.name: sdist.extractfile(member) for member in sdist if member.isfile()}
        return {name.split("/", 1)[1]: file.read() for name, file in files.items() if file}


def read_wheel(path: Path) -> dict[str, bytes]:
    """Return the files of a wheel."""
    with zipfile.ZipFile(path) as wheel:
        return {name: wheel.read(name) for name in wheel.namelist() if not name.endswith("/")}


def tracked() -> dict[str, bytes] | None:
    """Return the files that git tracks, or None outside a checkout."""
    done = subprocess.run(["git", "ls-files", "-z"], capture_output=True, text=True, check=False)
    paths = [Path(name) for name in done.stdout.split("\0") if name]
    return {path.as_posix(): path.read_bytes() for path in paths if path.is_file()} or None


def differences(one: dict[str, bytes], other: dict[str, bytes]) -> list[str]:
    """Return the files that two collections do not share with equal bytes."""
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def faults(sdist: dict[str, bytes], wheel: dict[str, bytes], checkout: dict[str, bytes] | None) -> list[str]:
    """Return everything that is wrong with the distributions."""
    found = []
    ours = {name: data for name, data in sdist.items() if name not in ADDED}
    if checkout is not None:
        found += [f"sdist and checkout differ: {name}" for name in differences(ours, checkout)]
    package = {name: data for name, data in wheel.items() if name.startswith("archive/")}
    source = {name: data for name, data in sdist.items() if name.startswith("archive/")}
    found += [f"wheel and sdist differ: {name}" for name in differences(package, source)]
    found += [
        f"the wheel has {name}"
        for name in wheel
        if name not in package and not name.split("/")[0].endswith(".dist-info")
    ]
    tests = [name for name in package if Path(name).name.startswith(("test_", "conftest"))]
    found += [f"the wheel has a test: {name}" for name in tests]
    testing = {Path(name).name for name in package if name.startswith("archive/testing/")}
    if testing != TESTING:
        found.append(f"archive.testing is {sorted(testing)}")
    if "archive/py.typed" not in package:
        found.append("the wheel has no archive/py.typed")
    [folder] = {name.split("/")[0] for name in wheel if name not in package} or {""}
    found += [
        f"the wheel has no {name}"
        for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")
        if f"{folder}/{name}" not in wheel
    ]
    metadata = Parser().parsestr(wheel[f"{folder}/METADATA"].decode())
    if "testing" not in (metadata.get_all("Provides-Extra") or []):
        found.append("the wheel has no extra named testing")
    return found


def main() -> None:
    """Print what is wrong, and fail if anything is."""
    sdist, wheel = read_sdist(Path(sys.argv[1])), read_wheel(Path(sys.argv[2]))
    found = faults(sdist, wheel, tracked())
    for fault in found:
        print(fault, file=sys.stderr)
    if found:
        sys.exit(1)
    print(f"sdist: {len(sdist)} files, as tracked; wheel: {len(wheel)} files, the package alone")


if __name__ == "__main__":
    main()

"""The tools: what each is installed of, how its driver is started, and what its language cannot say."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.hdf5tools.comparing import Loose

__all__ = ["APT", "DRIVERS", "ROOT", "TOOLS", "MissingToolError", "Tool", "find"]

ROOT = Path(__file__).parents[2]
DRIVERS = Path(__file__).parent / "drivers"
APT = "hdf5-tools octave r-base-core r-bioc-rhdf5 r-cran-hdf5r r-cran-bit64 r-cran-jsonlite nodejs npm"
"""Packages of Debian; the command installs none of them."""
OLDEST = (
    ("3.6", "h5py==2.7.0", "numpy<1.17"),
    ("3.8", "h5py==2.10.0", "numpy<1.24"),
    ("3.9", "h5py==3.1.0", "numpy<1.24"),
    ("3.10", "h5py==3.6.0", "numpy<1.24"),
    ("3.11", "h5py==3.8.0", "numpy<2"),
    ("", "h5py==3.10.0", "numpy<2"),
)
"""Pythons and the oldest h5py that has a wheel for each: the first that is here is taken."""
VECTORS = ("attrs", "data")


EVERYTHING = Loose()


class MissingToolError(Exception):
    """A tool cannot be installed, or a program is not here."""


@dataclass(frozen=True)
class Tool:
    """One column of the table."""

    name: str
    """As the table shows it."""
    driver: str
    """Its program in `drivers`: a module of Python, or a file."""
    loose: Loose = EVERYTHING
    """What it cannot say."""
    packages: tuple[str, ...] = ()
    """What pip or npm installs."""
    programs: tuple[str, ...] = ()
    """What has to be on the path."""
    oldest: bool = False
    """It gets an environment of old versions."""


NUMPY_ATTRIBUTES = Loose(axes=("attrs",))
"""netCDF knows no scalar attributes."""
R = Loose(axes=VECTORS, numbers=True)
OCTAVE = Loose(attributes=True, axes=VECTORS, numbers=True, names=True)
TOOLS = (
    Tool("h5py, oldest", "readh5py", oldest=True),
    Tool("h5py", "readh5py", packages=("h5py",)),
    Tool("h5dump", "readh5dump", programs=("h5dump",)),
    Tool("h5diff", "checkh5diff", programs=("h5diff", "h5dump")),
    Tool("h5repack", "readh5repack", programs=("h5repack", "h5dump"), packages=("h5py",)),
    Tool("PyTables", "readpytables", NUMPY_ATTRIBUTES, ("tables",)),
    Tool("netCDF4", "readnetcdf4", NUMPY_ATTRIBUTES, ("netCDF4",)),
    Tool("h5netcdf", "readh5netcdf", NUMPY_ATTRIBUTES, ("h5netcdf", "h5py")),
    Tool("xarray, h5netcdf", "readxarray", NUMPY_ATTRIBUTES, ("xarray", "h5netcdf", "h5py")),
    Tool("xarray, netcdf4", "readxarraynetcdf4", NUMPY_ATTRIBUTES, ("xarray", "netCDF4", "h5py")),
    Tool("pyfive", "readpyfive", packages=("pyfive",)),
    Tool("async-hdf5", "readasynchdf5", NUMPY_ATTRIBUTES, ("async-hdf5",)),
    Tool("jsfive", "readjsfive.mjs", Loose(numbers=True), ("jsfive",), ("node", "npm")),
    Tool("h5wasm", "readh5wasm.mjs", packages=("h5wasm",), programs=("node", "npm")),
    Tool("Octave", "readoctave.m", OCTAVE, programs=("octave", "h5dump")),
    Tool("R, rhdf5", "readrhdf5.R", R, programs=("Rscript", "h5dump")),
    Tool("R, hdf5r", "readhdf5r.R", R, programs=("Rscript", "h5dump")),
)


def find(tool: Tool, cache: Path | None) -> list[str]:
    """Return the command of a tool's driver, installed in a cache folder; without one, of this environment.

    Raises
    ------
    MissingToolError
        It says what is not here.
    """
    missing = [program for program in tool.programs if shutil.which(program) is None]
    if missing:
        raise MissingToolError(f"{', '.join(missing)} not found")
    if tool.driver.endswith(".R"):
        return ["Rscript", str(DRIVERS / tool.driver)]
    if tool.driver.endswith(".m"):
        return ["octave", "--no-gui", "--quiet", "--norc", str(DRIVERS / tool.driver)]
    if tool.driver.endswith(".mjs"):
        if cache is not None:
            npm = ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(cache / "npm")]
            install_once(cache / "npm", [*npm, *tool.packages], tool.packages)
        return ["node", str(DRIVERS / tool.driver)]
    python = (
        sys.executable if cache is None else oldest(cache) if tool.oldest else newest(cache, tool.packages)
    )
    return [python, "-W", "ignore", "-m", f"tests.hdf5tools.drivers.{tool.driver}"]


def install(commands: Sequence[Sequence[str]]) -> None:
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
        if done.returncode:
            raise MissingToolError(
                f"{' '.join(command[:3])}: {(done.stderr.strip().splitlines() or [''])[-1][:200]}"
            )


def install_once(folder: Path, command: Sequence[str], packages: Sequence[str]) -> None:
    """Install packages into a folder, unless they are there."""
    markers = [folder / f"installed-{package}" for package in packages]
    if not all(marker.exists() for marker in markers):
        install([command])
        for marker in markers:
            marker.touch()


def newest(cache: Path, packages: Sequence[str]) -> str:
    """Return the Python of one environment for the newest versions of all tools."""
    folder = cache / "newest"
    if not (folder / "bin/python").exists():
        install([[sys.executable, "-m", "venv", str(folder)]])
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet"]
    install_once(folder, [*pip, *packages, "numpy"], packages)
    return str(folder / "bin/python")


def oldest(cache: Path) -> str:
    """Return the Python of an environment with the oldest h5py that installs with any Python here."""
    folder = cache / "oldest"
    python = folder / "bin/python"
    marker = folder / "installed"
    if marker.exists():
        return str(python)
    said = "no Python for it"
    for version, *packages in OLDEST:
        for interpreter in interpreters(version):
            pip = [str(python), "-m", "pip", "install", "--quiet", "--only-binary", ":all:", *packages]
            try:
                install([[interpreter, "-m", "venv", "--clear", str(folder)], pip])
            except MissingToolError as error:
                said = str(error)
            else:
                marker.touch()
                return str(python)
    raise MissingToolError(said)


def interpreters(version: str) -> Iterator[str]:
    """Yield Pythons of a version: of the path, of pyenv, or this one."""
    if not version:
        yield sys.executable
        return
    found = shutil.which(f"python{version}")
    if found:
        yield found
    roots = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from (str(path) for path in sorted(roots.glob(f"{version}.*/bin/python")))

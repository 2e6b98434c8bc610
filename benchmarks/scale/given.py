"""What `simulate` is told and nobody measured here: limits and prices of S3, and machines."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GIVEN", "Given", "values_with"]

_PERFORMANCE = "Amazon S3 User Guide, Optimizing Amazon S3 performance"
_PRICES = "aws.amazon.com/s3/pricing, S3 Standard, us-east-1, first 50 TB"


@dataclass(frozen=True, slots=True)
class Given:
    """A parameter."""

    name: str
    value: float
    unit: str
    source: str


GIVEN = (
    Given("get_rate", 5500, "GET and HEAD a second and prefix", _PERFORMANCE),
    Given("put_rate", 3500, "PUT, POST and DELETE a second and prefix", _PERFORMANCE),
    Given("latency", 0.1, "s to the first byte of a small object", f"{_PERFORMANCE}: 100 to 200 ms"),
    Given("connection", 85e6, "bytes a second and connection", f"{_PERFORMANCE}: 85 to 90 MB/s"),
    Given("network", 1.25e9, "bytes a second and machine", "assumed: 10 Gbit/s"),
    Given("prefixes", 1, "prefixes that the clients' archives are under", "assumed: a folder for a round"),
    Given("cores", 64, "cores of a machine; the local one, and each that runs workers on S3", "assumed"),
    Given("disk_read", 2e9, "bytes a second of a local NVMe disk", "Amazon EC2 I3: 16 GB/s of 8 disks"),
    Given("disk_write", 1e9, "bytes a second of a local NVMe disk", "assumed: half of reading"),
    Given("get_price", 0.0004 / 1000, "dollars a GET or HEAD", _PRICES),
    Given("put_price", 0.005 / 1000, "dollars a PUT, POST or LIST; a DELETE costs nothing", _PRICES),
    Given("stored_price", 0.023 / 30 / 86400 / 1e9, "dollars a byte and second of scratch", _PRICES),
)


def values_with(changes: list[str]) -> dict[str, float]:
    """Return all values, some of them changed by words like ``latency=0.02``."""
    found = {one.name: float(one.value) for one in GIVEN}
    for change in changes:
        name, _, value = change.partition("=")
        if name not in found:
            raise SystemExit(f"no parameter {name!r}; there are {', '.join(found)}")
        found[name] = float(value)
    return found

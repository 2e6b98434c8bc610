"""The reader in JavaScript, written from the specification alone, against the test vectors."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import xxhash

HERE = Path(__file__).parent
VECTORS = HERE.parents[2] / "spec" / "v1" / "vectors"
NODE = shutil.which("node")
COUNTS = re.compile(r"valid: (\d+) of (\d+) read, invalid: (\d+) of (\d+) refused as stated")


def release() -> int:
    """Return the major version of node, 0 where there is none."""
    if NODE is None:
        return 0
    told = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=True).stdout
    return int(told.removeprefix("v").split(".")[0])


pytestmark = [pytest.mark.tools, pytest.mark.skipif(release() < 20, reason="needs node 20 or newer")]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert NODE is not None
    return subprocess.run([NODE, *arguments], capture_output=True, text=True, check=False, timeout=100)


def test_a_reader_in_javascript_agrees_with_every_vector():
    ran = run(str(HERE / "vectors.mjs"), str(VECTORS))
    assert ran.returncode == 0, ran.stdout + ran.stderr
    counts = COUNTS.search(ran.stdout)
    assert counts is not None, ran.stdout
    read, valid, refused, invalid = map(int, counts.groups())
    assert read == valid > 0
    assert refused == invalid > 0


def test_its_hashes_are_xxh3_at_every_length():
    # Every branch of the algorithm ends below 1,100 bytes; the last lengths have several blocks.
    lengths = [*range(1100), 2047, 2048, 2049, 65536, 100_001]
    script = f"""
    import {{ xxh3_64, xxh3_128 }} from {(HERE / "xxh3.mjs").as_uri()!r};
    const bytes = Buffer.alloc({lengths[-1]});
    for (let i = 0; i < bytes.length; i += 1) bytes[i] = (i * i * 31 + (i >> 3)) & 255;
    for (const n of {lengths}) {{
      const part = bytes.subarray(0, n);
      console.log(xxh3_64(part).toString(16).padStart(16, "0") + xxh3_128(part).toString("hex"));
    }}
    """
    ran = run("--input-type=module", "--eval", script)
    assert ran.returncode == 0, ran.stderr
    data = bytes((i * i * 31 + (i >> 3)) & 255 for i in range(lengths[-1]))
    wanted = [xxhash.xxh3_64_hexdigest(data[:n]) + xxhash.xxh3_128_hexdigest(data[:n]) for n in lengths]
    assert ran.stdout.split() == wanted

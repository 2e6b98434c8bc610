"""The storage suite over local files and memory."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from tests.storage.suite import Root, SinkTests, SourceTests, StorageTests


class TestLocalFiles(SourceTests, SinkTests):
    @pytest.fixture
    def root(self, tmp_path: Path) -> Root:
        return Root(str(tmp_path))


class TestMemory(StorageTests):
    exclusive = exclusive_put = True

    @pytest.fixture
    def root(self) -> Iterator[Root]:
        folder = f"/{uuid.uuid4().hex}"
        yield Root(f"memory:/{folder}")
        memory = fsspec.filesystem("memory")
        if memory.exists(folder):
            memory.rm(folder, recursive=True)

"""Drivers import libraries of other environments."""

from __future__ import annotations

collect_ignore = ["drivers"]

"""Helpers that ship for the tests of programs built on archives, and for our own."""

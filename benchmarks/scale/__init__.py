"""Means of many archives: time, memory and requests."""

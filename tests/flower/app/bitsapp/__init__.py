"""Federated least squares whose every bit is compared."""

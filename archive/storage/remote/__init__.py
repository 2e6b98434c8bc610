"""Objects behind a network: read by ranges of one version, written in parts, kept in a local cache."""

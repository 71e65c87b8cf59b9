"""Benchmarks: ``python -m benchmarks.NAME --json`` prints one JSON line, measured against a peer in the same run."""

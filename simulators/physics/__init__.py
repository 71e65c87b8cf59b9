"""Machines without protocols: seeded, with an injected clock, and no idea of who listens."""

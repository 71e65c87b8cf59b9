"""Simulated plants: machines without protocols, protocol skins over them, and the log of all that they said."""

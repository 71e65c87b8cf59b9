"""Skins: how a simulated machine speaks to the outside."""

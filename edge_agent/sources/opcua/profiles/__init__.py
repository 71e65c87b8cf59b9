"""Profiles of machines: what an OPC UA companion specification calls things, and the signals that they become.

Each is a YAML file (`edge_agent.sources.opcua.profile.ProfileFile` says what stands in it); nothing here is code.
"""

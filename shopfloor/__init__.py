"""The vocabulary that every part shares: names, sample blocks, the wire format, errors, configuration files."""

"""A private certificate authority in a folder: what `shopfloor certs` makes, renews and examines."""

"""Moves the embedded store to a database server: chunk by chunk, resumable, every sample read back and compared.

`source` reads, `target` writes and reads back, `checksum` tells whether both say the same, `progress` remembers,
`plant_copy` and `settling` bring the rest over; `mover` puts them together.
"""

"""What readers ask for and how they get it: spans and grids, aggregates, thinning, tables in several formats.

Knows no web framework; `ingest_service.routes.samples` does the asking.
"""

"""Which agent this is."""

from importlib.metadata import PackageNotFoundError, version


def agent_version() -> str:
    """Return the installed version."""
    try:
        return version("shopfloor")
    except PackageNotFoundError:
        return "unknown"

"""What a user writes about the requests to one OPC UA server."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from shopfloor.configfile import ConfigModel

_Limit = Annotated[int, Field(ge=1, le=100_000)] | None


class LimitsConfig(ConfigModel):
    """How many nodes go into one request, where the server's own OperationLimits are missing or wrong."""

    read: _Limit = None
    """Nodes of a Read; default what the server states, at most 10000, 500 where it states nothing."""
    monitor: _Limit = None
    """Nodes of a CreateMonitoredItems; default what the server states, at most 1000, 500 where it states nothing."""
    translate: _Limit = None
    """Paths of a TranslateBrowsePathsToNodeIds; default as for ``monitor``."""
    browse: _Limit = None
    """Nodes of a Browse; default as for ``monitor``."""
    history: _Limit = None
    """Nodes of a HistoryRead; default what the server states, at most 50."""


class HistoryConfig(ConfigModel):
    """How gaps are closed from the server's own history (HistoryRead of raw values)."""

    backfill_h: Annotated[float, Field(ge=0, le=24 * 366)] = 1.0
    """How far back a node is read when it is seen for the first time, in hours; default 1, 0 reads nothing."""
    overlap_s: Annotated[float, Field(ge=0, le=3_600)] = 5.0
    """Margin on both sides of a gap, in seconds; default 5. It covers values that reach the server late, and
    clocks of devices behind the server that differ from the server's. What is read twice is stored once."""
    settle_s: Annotated[float, Field(ge=0, le=3_600)] = 1.0
    """How old a value has to be, in seconds, before it is expected in the server's history; default 1."""
    slice_h: Annotated[float, Field(gt=0, le=24 * 31)] = 1.0
    """A long gap is read in slices of this many hours, oldest first for all nodes; default 1."""
    page_values: Annotated[int, Field(ge=10, le=1_000_000)] = 10_000
    """Values asked for in one request, over all of its nodes; default 10000. Bounds the memory of a backfill."""


class DeadbandConfig(ConfigModel):
    """How much a value has to change before the server reports it (Part 4 §7.22.2); exactly one of the two."""

    absolute: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """In the unit that the server has, before ``scale``; 0 is none."""
    percent: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None
    """In percent of the EURange that the server states for the node; 0 is none."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.absolute is None) == (self.percent is None):
            raise PydanticCustomError("deadband", "either absolute or percent")
        return self

    @property
    def size(self) -> float:
        """Whichever of the two was written."""
        return self.absolute if self.absolute is not None else self.percent or 0.0

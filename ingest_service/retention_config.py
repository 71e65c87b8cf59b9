"""The part of ``ingest.yaml`` that says how long samples are kept."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from ingest_service.stores.duckdb_keeping import Keeping, Rule
from ingest_service.stores.selector import Selector
from shopfloor.configfile import ConfigModel

_MOST_DAYS = 100_000


def _asset_glob(text: str) -> str:
    if not text or text.startswith("/") or text.endswith("/") or "//" in text:
        raise ValueError("an asset path or a glob such as acme/*/moulding/** stands here")
    return text


class RetentionConfig(ConfigModel):
    """How long the samples of some series are kept; of several rules the first that means a series counts for it.

    Days are counted from the end of the UTC day that the samples belong to.
    """

    assets: tuple[Annotated[str, AfterValidator(_asset_glob)], ...] = ()
    """Asset paths (each with all below it) and globs such as ``acme/*/moulding/**``; none means every asset."""
    signals: tuple[str, ...] = ()
    """Globs of signals such as ``barrel.*``; none means every signal."""
    raw_days: int | None = Field(default=None, ge=1, le=_MOST_DAYS)
    """Days for which samples are kept; without it for ever."""
    minute_days: int | None = Field(default=None, ge=1, le=_MOST_DAYS)
    """Days for which aggregates by the minute are kept; without it as long as the samples."""
    hour_days: int | None = Field(default=None, ge=1, le=_MOST_DAYS)
    """Days for which aggregates by the hour are kept; without it for ever."""

    @model_validator(mode="after")
    def _outlives_samples(self) -> Self:
        if self.raw_days is None and (self.minute_days is not None or self.hour_days is not None):
            raise ValueError("aggregates stay as long as samples do: minute_days and hour_days need raw_days")
        for days in (self.minute_days, self.hour_days):
            if days is not None and self.raw_days is not None and days < self.raw_days:
                raise ValueError("minute_days and hour_days may not be less than raw_days")
        return self

    @property
    def rule(self) -> Rule:
        """The same for the store."""
        return Rule(
            Selector(self.assets, self.signals), Keeping(self.raw_days, self.minute_days, self.hour_days)
        )

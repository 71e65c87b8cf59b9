"""What a user writes about the way from the sources to the buffer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator
from pydantic_core import InitErrorDetails, PydanticCustomError

from edge_agent.processing.selector import EVERYTHING, Selector, check_asset_glob, check_signal_glob
from shopfloor.configfile import ConfigModel, Signal

FRESHNESS: Final = "freshness"
"""The last part of the name of a verdict's signal."""
MAX_RULES: Final = 1_000
_DAY_S: Final = 86_400

AssetGlob = Annotated[str, Field(min_length=1, max_length=400), AfterValidator(check_asset_glob)]
SignalGlob = Annotated[str, Field(min_length=1, max_length=600), AfterValidator(check_signal_glob)]


class DeadbandConfig(ConfigModel):
    """A reading no further from the last kept one than this is left out. Of both limits, the larger counts."""

    absolute: float = Field(default=0.0, ge=0)
    """Largest difference from the last kept value that is left out, in the signal's unit after scaling; 0 leaves out
    what is equal. Default: 0."""
    percent: float = Field(default=0.0, ge=0, le=100)
    """The same, in percent of the last kept value's magnitude (not of a range). Default: 0."""
    keep_previous: bool = False
    """Whether the reading before the one that ends a quiet phase is kept as well, so that a chart shows a step and no
    ramp. Default: false."""


class SwingingDoorConfig(ConfigModel):
    """Straight stretches are left out: what is kept, joined by lines, differs from no reading by more than this."""

    deviation: float = Field(gt=0)
    """Largest distance between a reading that is left out and the line between its kept neighbours, in the signal's
    unit after scaling."""
    hold_s: float = Field(default=60.0, ge=1, le=_DAY_S)
    """After how many seconds the newest reading is kept all the same when no other follows; until then it waits, on
    disk, for what comes after it. Pages show a value at most that late. Default: 60."""


class RuleConfig(ConfigModel):
    """What happens to the series that a selector takes; the first rule that takes a series counts."""

    asset: AssetGlob = EVERYTHING
    """Asset paths: ``*`` is any text within a level, ``**`` any text, ``?`` one character. Default: all."""
    signal: SignalGlob = EVERYTHING
    """Signal names as the source gives them: ``*`` is any text between two dots, ``**`` any text, ``?`` one character.
    Default: all."""
    rename: Signal | None = None
    """Another name for the signal; ``signal`` must be a name without wildcards then. Default: none."""
    scale: float = 1.0
    """A number becomes number * scale + offset. Default: 1."""
    offset: float = 0.0
    """See ``scale``. Default: 0."""
    unit: str | None = Field(default=None, max_length=60)
    """Unit after scaling, UCUM; replaces what the source says. Default: as the source says."""
    to_text: dict[int, str] = Field(default_factory=dict, max_length=10_000)
    """Whole number to text; a number that is not in it becomes null, BAD. Default: none."""
    to_number: dict[str, float] = Field(default_factory=dict, max_length=10_000)
    """Text to number; a text that is not in it becomes null, BAD. Quote ``"on"``, ``"off"``, ``"yes"``, ``"no"``.
    Default: none."""
    deadband: DeadbandConfig | None = None
    """Leave out what hardly differs from the last kept reading; also texts that did not change. Default: none."""
    swinging_door: SwingingDoorConfig | None = None
    """Leave out what lies on a straight line. Default: none."""
    min_interval_s: float = Field(default=0.0, ge=0, le=_DAY_S)
    """Least time between two kept readings, by the machine's clock, in seconds. The newest reading of a quicker
    sequence waits, on disk, until the interval is over; it is never lost. Default: 0."""
    max_interval_s: float | None = Field(default=None, gt=0, le=31 * _DAY_S)
    """A reading so many seconds after the last kept one is kept whatever it says (a heartbeat). Nothing is kept that
    the source did not hand over. Default: none."""
    max_per_minute: int | None = Field(default=None, ge=1, le=60_000)
    """Most readings kept within a minute of the machine's clock; the newest of the others waits for the next minute.
    Default: none."""
    freshness_s: float | None = Field(default=None, ge=1, le=31 * _DAY_S)
    """After how many seconds without reading or confirmation a series is stale. With a limit, each series has a second
    one, ``SIGNAL.freshness``, whose text is ``fresh``, ``unchanged``, ``stale`` or ``disconnected``. Default: none."""

    @property
    def selector(self) -> Selector:
        """What the rule takes."""
        return Selector(self.asset, self.signal)

    @property
    def thins(self) -> bool:
        """Whether the rule leaves anything out."""
        return (
            self.deadband is not None
            or self.swinging_door is not None
            or self.min_interval_s > 0
            or self.max_per_minute is not None
        )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        scaled = self.scale != 1.0 or self.offset != 0.0
        for wrong, key, why in (
            (self.rename and not self.selector.names_one_signal, "rename", "signal must be one name, without wildcards"),
            (self.to_text and self.to_number, "to_number", "goes together with nothing that makes text"),
            (scaled and self.to_text, "scale", "a text is not scaled"),
            (scaled and self.to_number, "scale", "write the scaled numbers into to_number"),
            (
                self.swinging_door and self.deadband,
                "swinging_door",
                "leaves out all that a deadband would, and with one its bound would not hold: give one of the two",
            ),
            (
                self.swinging_door and (self.min_interval_s or self.max_per_minute),
                "swinging_door",
                "its bound would not hold with min_interval_s or max_per_minute",
            ),
            (
                self.deadband and self.deadband.keep_previous and (self.min_interval_s or self.max_per_minute),
                "deadband.keep_previous",
                "would keep more than min_interval_s or max_per_minute allow",
            ),
            (
                self.max_interval_s is not None and self.max_interval_s < self.min_interval_s,
                "max_interval_s",
                "must be no less than min_interval_s",
            ),
            (
                self.max_interval_s is not None and not self.thins,
                "max_interval_s",
                "nothing is left out by this rule: every reading is kept already",
            ),
        ):  # fmt: skip
            if wrong:
                raise PydanticCustomError("rule", "{key}: {why}", {"key": key, "why": why})
        return self


def check_rules(rules: Sequence[RuleConfig]) -> Sequence[RuleConfig]:
    """Refuse a rule that never counts because an earlier one takes the same, or everything."""
    wrong: list[InitErrorDetails] = []
    for later, rule in enumerate(rules):
        for earlier, before in enumerate(rules[:later]):
            if before.selector in (rule.selector, Selector(EVERYTHING, EVERYTHING)):
                why = f"never counts: processing.{earlier} takes all of it before; put this one first"
                kind = PydanticCustomError("rule", "{why}", {"why": why})
                wrong.append(InitErrorDetails(type=kind, loc=(later,), input=None))
                break
    if wrong:
        raise ValidationError.from_exception_data("processing", wrong)
    return rules


Rules = Annotated[tuple[RuleConfig, ...], Field(max_length=MAX_RULES), AfterValidator(check_rules)]
"""Rules in the order in which they are tried."""

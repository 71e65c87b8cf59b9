"""What the two query languages have in common: how a board gets from what it asks to what Grafana is told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from grafana_foundation_sdk.cog import builder, variants
from grafana_foundation_sdk.models.common import DataSourceRef

from dashboards.grafana.ask import Ask, Filter, Rows

Target = dict[str, Any]

_BRACES: Final = re.compile(r"\{(\w+)\}")


class Language(NamedTuple):
    """One query language, and the data sources that speak it."""

    name: str
    """``influxql`` or ``metricsql``; also the folder of what is rendered."""
    database: str
    """As people call it."""
    datasource: str
    """Type of the Grafana data source."""
    opens_on: tuple[str, str]
    """Uid and name of the data source that a dashboard opens on: another one of its type may be there for other things."""
    prefix: str
    """Of the dashboards' uids: both sets fit into one Grafana."""
    suffix: str
    """Of their titles, for the same reason."""
    target: Callable[[Ask], Target]
    """One query."""
    rows: Callable[[Rows], list[Target]]
    """The queries of a table; several have to be merged."""
    column: Callable[[Rows, int], str]
    """What the figure of a column is called in the answer."""
    values: Callable[[str, str, Sequence[Filter]], str]
    """Query of a variable: the values of a tag in a measurement."""
    events: Callable[[Sequence[str], Sequence[Filter]], Mapping[str, Any]]
    """Query of an annotation: events of some kinds."""

    def uid(self, board: str) -> str:
        """Return the uid of a dashboard."""
        return f"{self.prefix}-{board}"

    @property
    def source(self) -> DataSourceRef:
        """The data source that the variable ``ds`` names."""
        return DataSourceRef(type_val=self.datasource, uid="${ds}")


class _Query(variants.Dataquery):
    def __init__(self, target: Mapping[str, Any]) -> None:
        self._target = target

    def to_json(self) -> Mapping[str, Any]:
        return self._target


class Query(builder.Builder[variants.Dataquery]):
    """A target that is built already, for the builders of the SDK, which know none of InfluxQL."""

    def __init__(self, target: Mapping[str, Any]) -> None:
        self._target = target

    def build(self) -> variants.Dataquery:
        """Return it."""
        return _Query(self._target)


def named(legend: str, spell: Callable[[str], str]) -> str:
    """Return a legend whose tags in braces are spelled as a language wants them."""
    return _BRACES.sub(lambda found: spell(found[1]), legend)


def quoted(text: str) -> str:
    """Return a text between double quotes; both languages read JSON's escapes of quotes and backslashes."""
    return json.dumps(text, ensure_ascii=False)

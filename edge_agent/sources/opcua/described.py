"""What is known about the series of a source beside their values: by the configuration, else by the server itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Never

from asyncua import ua

from edge_agent.sources.opcua.coverage import State, series_id
from edge_agent.sources.opcua.live import Live
from edge_agent.sources.opcua.metadata import Metadata, read_enumerations, read_metadata
from edge_agent.sources.opcua.nodes import NO_SAMPLES, Nodes
from edge_agent.sources.opcua.session import ServiceFault, Session
from edge_agent.sources.opcua.wording import SUFFIX
from shopfloor import memory
from shopfloor.messages import SeriesDeclaration

log = logging.getLogger(__name__)

_BATCH: Final = 1_000
_CHUNK: Final = 1_000
_PREFIX: Final = "said/"
_MAX_TEXT: Final = 500


class Described:
    """Units and descriptions of one source's series.

    Args:
        nodes: whose series.
    """

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._said: dict[str, tuple[str, str]] = {}
        """Unit and description as the server states them, by `series_id`."""
        self._changed = False
        self._version = 0
        self._declared: tuple[SeriesDeclaration, ...] = ()
        self._declared_for: tuple[int, ...] = ()

    def restore(self, state: Mapping[str, bytes]) -> None:
        """Take over what an earlier session, or an earlier life, was told."""
        for key in state:
            if key.startswith(_PREFIX):
                try:
                    said = {
                        str(name): (str(unit), str(text))
                        for name, (unit, text) in json.loads(state[key]).items()
                    }
                except (ValueError, TypeError, AttributeError):
                    continue  # the server is asked again
                self._said.update(said)
        self._version += 1

    def declarations(self) -> tuple[SeriesDeclaration, ...]:
        """Return what is known about all series; the same object until there is more."""
        nodes = self._nodes
        made_for = (len(nodes.configs), len(nodes.wording), nodes.expansion.elements.total, self._version)
        if made_for != self._declared_for:
            self._declared = tuple(self._declare())
            self._declared_for = made_for
        return self._declared

    def _declare(self) -> Iterable[SeriesDeclaration]:
        nodes = self._nodes
        known: list[tuple[str, str]] = []
        assets: dict[str, str] = {}
        for number, node in enumerate(nodes.configs):
            unit, text = "", ""
            if self._said:
                unit, text = self._said.get(series_id(node.asset, node.signal), ("", ""))
            known.append((node.unit or ("" if node.is_scaled else unit), node.description or text))
            if number not in nodes.expansion.elements:
                # Thousands of nodes share one asset: so do their declarations.
                asset = assets.setdefault(node.asset, str(node.asset))
                yield SeriesDeclaration(asset, node.signal, *known[-1])
        for number, said in enumerate(known if nodes.wording else ()):
            if nodes.wording.beside(number):
                asset, signal = str(nodes.configs[number].asset), nodes.configs[number].signal
                yield SeriesDeclaration(asset, f"{signal}.{SUFFIX}", "", said[1])
        yield from nodes.expansion.elements.declarations(known)

    async def keep_asking(self, live: Live) -> Never:
        """Ask once a session about every node that works; others are not held up by it."""
        # A byte a node: a set of ten thousand takes half a megabyte.
        asked = bytearray()
        while True:
            live.attached.clear()
            try:
                while numbers := self._next(asked):
                    await self._ask(live.session, numbers)
                await self.save(live)
                memory.give_back()
            except ServiceFault as fault:
                log.info("source %s: the server does not describe its variables: %s", live.config.name, fault)
            await live.attached.wait()

    def _next(self, asked: bytearray) -> list[int]:
        """Return nodes that are still to be asked about, and note that they are."""
        asked.extend(bytes(len(self._nodes.configs) - len(asked)))
        numbers = [number for number in self._nodes.ids if not asked[number]][:_BATCH]
        for number in numbers:
            asked[number] = True
        return numbers

    async def _ask(self, session: Session, numbers: Sequence[int]) -> None:
        ids = self._nodes.ids
        wanted = [
            number
            for number in numbers
            if number in ids
            and not (self._nodes.configs[number].unit and self._nodes.configs[number].description)
        ]
        for number, told in zip(
            wanted, await read_metadata(session, [ids[number] for number in wanted]), strict=True
        ):
            self.note(number, told.unit, _text(told))

    def note(self, number: int, unit: str, text: str) -> None:
        """Note what the server says of a node."""
        said = (unit, text)
        if not any(said) and not self._said:
            return
        node = self._nodes.configs[number]
        name = series_id(node.asset, node.signal)
        if self._said.get(name, ("", "")) != said:
            self._said[name] = said
            self._changed = True

    async def save(self, live: Live) -> None:
        """Make durable what was noted, if anything was; raises StoreUnavailable, then it is to be tried again."""
        if not self._changed:
            return
        self._changed = False
        self._version += 1
        wanted = {series_id(node.asset, node.signal) for node in self._nodes.configs}
        kept = [(name, said) for name, said in self._said.items() if name in wanted and any(said)]
        state: State = {key: b"" for key in live.sink.state() if key.startswith(_PREFIX)}
        for start in range(0, len(kept), _CHUNK):
            chunk = dict(kept[start : start + _CHUNK])
            state[f"{_PREFIX}{start // _CHUNK}"] = json.dumps(chunk, ensure_ascii=False).encode()
        try:
            await live.sink.put(NO_SAMPLES, state)
        except BaseException:
            self._changed = True
            raise


def _text(told: Metadata) -> str:
    """Return a description with the range that values normally lie in."""
    text = told.description[:_MAX_TEXT]
    if told.low is None or told.high is None or told.low >= told.high:
        return text
    return f"{text} ({told.low:g} to {told.high:g})".strip()


async def name_values(live: Live, here: Mapping[int, ua.NodeId]) -> None:
    """Learn the names of the values of those nodes that are to be shown as text, before the first of them comes."""
    nodes = live.nodes
    wanted = [number for number in here if nodes.configs[number].enum != "value"]
    if not wanted:
        return
    try:
        tables = await read_enumerations(live.session, [here[number] for number in wanted], live.data_types)
    except ServiceFault as fault:
        log.warning("source %s: the names of enumerations can't be read: %s", live.config.name, fault)
        return
    for number, table in zip(wanted, tables, strict=True):
        if table:
            nodes.wording.name(number, table, beside=nodes.configs[number].enum == "both")

"""``shopfloor edge buffer``: what an agent's buffer holds, and the way out of it into a file.

Works while the agent runs and while it does not, and stands in nobody's way: it reads, and never writes.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TextIO

import msgspec
import numpy as np

from edge_agent.buffer.filling import hours
from edge_agent.buffer.reading import BufferReader, PendingRow, StreamHolding
from edge_agent.buffer.sqlite import FILE_NAME
from edge_agent.config import Config
from shopfloor.errors import ShopfloorError, StoreUnavailable
from shopfloor.tables import size_text, table

_RATE_WINDOW_NS: Final = 600 * 10**9
_BEHIND_NS: Final = 30 * 10**9
"""What waits for less than this is on its way, and says nothing about how the buffer fills."""
_SPANS_SHOWN: Final = 1_000
_COLUMNS: Final = (
    "stream", "seq", "asset", "signal", "source_time", "received_time", "value", "text", "quality", "status",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what ``edge buffer`` takes."""
    parser.add_argument("action", nargs="?", choices=("show", "export"), default="show", help="default: show")
    parser.add_argument("config", type=Path, help="agent.yaml")
    parser.add_argument("--json", action="store_true", help="one object of JSON instead of tables")
    parser.add_argument("--out", type=Path, help="export: a new file, .csv or .jsonl")
    parser.add_argument("--stream", help="export: only this stream")


def run(arguments: argparse.Namespace, config: Config) -> int:
    """Show or export a buffer; returns the exit status (1: it can't be read; 2: wrong arguments)."""
    try:
        if arguments.action == "export":
            return _export(arguments, config)
        report = report_of(config)
    except (ShopfloorError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(report) if arguments.json else "\n".join(_lines(report)))
    return 0


def report_of(config: Config, *, now_ns: Callable[[], int] = time.time_ns) -> dict[str, Any]:
    """Return the figures of a buffer; times are ISO 8601 in UTC.

    ``hours_left`` is bytes left divided by the rate at which samples came to wait during the last ten minutes; null
    while the agent delivers what comes, and while it does not run.

    Raises:
        StoreUnavailable: there is no buffer, or it can't be read.
    """
    folder, limits = config.data, config.buffer
    path = folder / FILE_NAME
    now = now_ns()
    pid = running_agent(folder / "lock")
    with BufferReader(path) as reader:
        streams = reader.streams(now - _RATE_WINDOW_NS)
        spans, spans_total = reader.spans(_SPANS_SHOWN)
        inside = reader.free_bytes()
    pending_bytes = sum(stream.pending_bytes for stream in streams)
    used = sum(stream.used_bytes for stream in streams)
    oldest = min((s.oldest_pending_time for s in streams if s.oldest_pending_time is not None), default=None)
    free = shutil.disk_usage(folder).free
    on_disk = free + inside - limits.disk_reserve + used - pending_bytes
    left = max(0, min(limits.max_bytes - pending_bytes, on_disk))
    waited = 0 if oldest is None else min(_RATE_WINDOW_NS, now - oldest)
    rate = (
        sum(s.recent_bytes for s in streams) / waited * 1e9
        if waited >= _BEHIND_NS and pid is not None
        else 0.0
    )
    return {
        "agent": config.agent.id,
        "file": str(path),
        "running": pid is not None,
        "process": pid,
        "streams": [_stream(stream, live=pid is not None and stream is streams[-1]) for stream in streams],
        "pending_samples": sum(stream.pending_samples for stream in streams),
        "pending_bytes": pending_bytes,
        "oldest_pending_time": _iso(oldest),
        "used_bytes": used,
        "limit_bytes": limits.max_bytes,
        "left_bytes": left,
        "hours_left": hours(left, rate),
        "when_full": str(limits.when_full),
        "file_bytes": sum(each.stat().st_size for each in folder.glob(f"{FILE_NAME}*") if _is_ours(each)),
        "disk_free_bytes": free,
        "disk_reserve_bytes": limits.disk_reserve,
        "records_waiting": spans_total,
        "records": [
            msgspec.to_builtins(span) | {"from_time": _iso(span.from_time), "to_time": _iso(span.to_time)}
            for span in spans
        ],
        "quarantine": _files(folder / "quarantine", "*.sfb"),
        "damaged": _files(folder, "*.damaged-*") + _files(folder, "damaged-*.bin"),
    }


def running_agent(lock: Path, locks: Path = Path("/proc/locks")) -> int | None:
    """Return the process that holds an agent's lock file, None if nobody does.

    Read from the kernel's list of locks (proc(5)): trying the lock would make an agent that starts now fail.
    """
    try:
        status = lock.stat()
        written, listed = lock.read_text().strip(), locks.read_text()
    except OSError:
        return None
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
    for line in listed.splitlines():
        words = line.split()
        if len(words) < 6 or words[1] != "FLOCK":
            continue
        where, _, inode = words[5].rpartition(":")
        # On overlay file systems the kernel lists another device than stat() tells: then the process must agree.
        if inode == str(status.st_ino) and (where == device or words[4] == written):
            return int(words[4])
    return None


def _export(arguments: argparse.Namespace, config: Config) -> int:
    out: Path | None = arguments.out
    if out is None or out.suffix not in {".csv", ".jsonl"}:
        print("export: --out names a new file that ends in .csv or .jsonl", file=sys.stderr)
        return 2
    if out.exists():
        print(f"{out}: exists already; nothing is overwritten", file=sys.stderr)
        return 2
    with BufferReader(config.data / FILE_NAME) as reader:
        if arguments.stream and arguments.stream not in {stream.stream_id for stream in reader.streams()}:
            raise StoreUnavailable(f"no stream {arguments.stream} in {config.data / FILE_NAME}")
        part = out.with_name(out.name + ".part")
        write = _write_csv if out.suffix == ".csv" else _write_jsonl
        samples = damaged = 0
        try:
            with part.open("w", encoding="utf-8", newline="") as file:
                for row, lines in write(file, reader.pending(arguments.stream)):
                    samples += lines
                    damaged += row.count if row.block is None else 0
            part.replace(out)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    if damaged:
        print(f"{damaged} samples lie in damaged rows and are not in {out}", file=sys.stderr)
    summary = {"file": str(out), "samples": samples, "damaged_samples": damaged}
    print(json.dumps(summary) if arguments.json else f"{samples} samples written to {out}")
    return 1 if damaged else 0


def _write_csv(file: TextIO, rows: Iterator[PendingRow]) -> Iterator[tuple[PendingRow, int]]:
    writer = csv.writer(file)
    writer.writerow(_COLUMNS)
    for row in rows:
        lines = list(_lines_of(row))
        writer.writerows(lines)
        yield row, len(lines)


def _write_jsonl(file: TextIO, rows: Iterator[PendingRow]) -> Iterator[tuple[PendingRow, int]]:
    for row in rows:
        lines = [json.dumps(dict(zip(_COLUMNS, line, strict=True))) + "\n" for line in _lines_of(row)]
        file.writelines(lines)
        yield row, len(lines)


def _lines_of(row: PendingRow) -> Iterator[tuple[object, ...]]:
    block = row.block
    if block is None:
        return
    times = [
        np.datetime_as_string(column.view("M8[ns]"), unit="ns").tolist()
        for column in (block.source_time, block.received_time)
    ]
    for number, (index, source, received, value, quality, status) in enumerate(
        zip(
            block.series_index.tolist(), *times, block.value.tolist(), block.quality.tolist(), block.status.tolist(),
            strict=True,
        )
    ):  # fmt: skip
        key = block.series[index]
        number_or_none = None if value != value else value  # noqa: PLR0124  NaN is null
        yield (
            row.stream_id, row.first_seq + number, str(key.asset), key.signal, source + "Z", received + "Z",
            number_or_none, block.text.get(number), quality, status,
        )  # fmt: skip


def _stream(stream: StreamHolding, *, live: bool) -> dict[str, Any]:
    return {
        "stream": stream.stream_id,
        "lane": "live" if live else "backlog",
        "delivered_through": stream.committed,
        "last_seq": stream.last_seq,
        "pending_samples": stream.pending_samples,
        "pending_bytes": stream.pending_bytes,
        "oldest_pending_time": _iso(stream.oldest_pending_time),
        "used_bytes": stream.used_bytes,
    }


def _files(folder: Path, pattern: str) -> list[dict[str, Any]]:
    return [{"file": str(path), "bytes": path.stat().st_size} for path in sorted(folder.glob(pattern))]


def _is_ours(path: Path) -> bool:
    return path.name.removeprefix(FILE_NAME) in {"", "-wal", "-shm"}


def _iso(time_ns: int | None) -> str | None:
    if time_ns is None:
        return None
    return str(np.datetime_as_string(np.datetime64(time_ns, "ns"), unit="ms")) + "Z"


def _lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield the report for people."""
    running = f"running, process {report['process']}" if report["running"] else "not running"
    yield f"agent {report['agent']} ({running}), {report['file']}"
    left = report["hours_left"]
    yield (
        f"{report['pending_samples']:,} samples wait, {size_text(report['pending_bytes'])}; "
        f"{size_text(report['used_bytes'])} used of {size_text(report['limit_bytes'])}, {size_text(report['left_bytes'])} left"
        + (f", {left:,.1f} hours at the present rate" if left is not None else "")
    )
    yield f"oldest: {report['oldest_pending_time'] or 'nothing waits'}; when full: {report['when_full']}"
    yield (
        f"disk: {size_text(report['disk_free_bytes'])} free, {size_text(report['disk_reserve_bytes'])} are left to others; "
        f"the file takes {size_text(report['file_bytes'])}"
    )
    if report["streams"]:
        titles = ("stream", "lane", "delivered", "last", "waiting", "size", "oldest")
        rows = [
            (
                stream["stream"],
                stream["lane"],
                *(f"{stream[name]:,}" for name in ("delivered_through", "last_seq", "pending_samples")),
                size_text(stream["pending_bytes"]),
                stream["oldest_pending_time"] or "-",
            )
            for stream in report["streams"]
        ]
        yield ""
        yield from table(titles, rows, right=(2, 3, 4, 5))
    if report["records_waiting"]:
        yield f"\n{report['records_waiting']} records of what will not come wait to be sent:"
    for record in report["records"]:
        count = f"{'at least ' if record['at_least'] else ''}{record['count']:,}"
        place = (
            f"{record['stream_id']} {record['first_seq']}-{record['last_seq']}"
            if record["stream_id"]
            else record["source"]
        )
        yield f"  {record['kind']}: {count} samples, {place or 'stream unknown'}, {record['from_time']} to {record['to_time']}: {record['reason']}"
    for name, title in (
        ("quarantine", "refused by the service and set aside"),
        ("damaged", "damaged, set aside"),
    ):
        if report[name]:
            yield f"\n{title}:"
            yield from (f"  {size_text(each['bytes']):>9}  {each['file']}" for each in report[name])

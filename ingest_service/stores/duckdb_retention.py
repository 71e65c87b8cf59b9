"""Retention: what is too old goes, a file at a time; what outlives it as rollups is made first."""

from __future__ import annotations

import duckdb

from ingest_service.stores.duckdb_catalog import DAY_NS, Part, delete_parts, view_of
from ingest_service.stores.duckdb_compaction import merge_parts
from ingest_service.stores.duckdb_keeping import Keeping
from ingest_service.stores.duckdb_rollup import HOUR, MINUTE, insert_rollups, roll_up
from ingest_service.stores.duckdb_rows import concat_rows
from ingest_service.stores.duckdb_run import Workshop


def expire(shop: Workshop, cursor: duckdb.DuckDBPyConnection) -> list[Part]:
    """Remove what its rule no longer keeps; return the parts whose files may be deleted now.

    Samples of a part go at once, when its day has been over for as long as its rule says. Rollups that are kept longer
    and are not there yet are made of the samples before.

    Raises:
        StoreUnavailable, OSError: a file can't be read; the parts before it are done.
    """
    needless: list[Part] = []
    today = shop.clock_ns() // DAY_NS
    for part in view_of(cursor).parts:
        keeping = Keeping.parse(part.keeping)
        gone = {
            name: days is not None and part.day + days < today
            for name, days in (
                ("raw", keeping.raw_days),
                # Without a word on minutes they stay as long as the samples that they are made of.
                ("minutes", keeping.raw_days if keeping.minute_days is None else keeping.minute_days),
                ("hours", keeping.hour_days),
            )
        }
        if part.file is not None and gone["raw"]:
            _remove_samples(shop, cursor, part, minutes=not gone["minutes"], hours=not gone["hours"])
            needless.append(part)
        elif part.file is None and ((part.minutes and gone["minutes"]) or (part.hours and gone["hours"])):
            _remove_rollups(
                cursor,
                part,
                minutes=part.minutes and not gone["minutes"],
                hours=part.hours and not gone["hours"],
            )
    return needless


def _remove_samples(
    shop: Workshop, cursor: duckdb.DuckDBPyConnection, part: Part, *, minutes: bool, hours: bool
) -> None:
    assert part.file is not None
    made = {}
    wanted = ((MINUTE, minutes, part.minutes), (HOUR, hours, part.hours))
    for level, keep, there in wanted:
        if keep and not there:
            index = shop.files.index(part.file)
            made[level] = roll_up(
                concat_rows([shop.files.read(part.file, index.ids, values_only=True)]), level
            )
    shop.at("retention: before commit")
    cursor.execute("BEGIN TRANSACTION")
    try:
        for level, rolled in made.items():
            insert_rollups(cursor, part.part_id, {level: rolled})
        cursor.execute(
            "INSERT INTO removed VALUES (?, ?, ?)", [shop.clock_ns(), part.day, part.samples + part.repeats]
        )
        _keep(cursor, part, minutes=minutes, hours=hours)
        cursor.execute("COMMIT")
    except BaseException:
        cursor.execute("ROLLBACK")
        raise
    shop.at("retention: committed")


def _remove_rollups(cursor: duckdb.DuckDBPyConnection, part: Part, *, minutes: bool, hours: bool) -> None:
    cursor.execute("BEGIN TRANSACTION")
    try:
        _keep(cursor, part, minutes=minutes, hours=hours)
        cursor.execute("COMMIT")
    except BaseException:
        cursor.execute("ROLLBACK")
        raise


def _keep(cursor: duckdb.DuckDBPyConnection, part: Part, *, minutes: bool, hours: bool) -> None:
    """Leave of a part only its rollups, as far as they are to stay."""
    if not minutes and not hours:
        delete_parts(cursor, [part])
        return
    for level, keep in ((MINUTE, minutes), (HOUR, hours)):
        if not keep:
            cursor.execute("DELETE FROM rollup WHERE part_id = ? AND level = ?", [part.part_id, level])
    cursor.execute(
        "UPDATE part SET file = NULL, bytes = 0, sha256 = '', minutes = ?, hours = ? WHERE part_id = ?",
        [minutes, hours, part.part_id],
    )


def renew_rules(shop: Workshop, cursor: duckdb.DuckDBPyConnection) -> list[Part]:
    """Put parts under the present rules if the configuration changed; return those that were rewritten.

    A part all of whose series fall under one rule is only renamed; one with several is split.

    Raises:
        StoreUnavailable, OSError: a file can't be read or written; it is gone on with at the next call.
    """
    before = cursor.execute("SELECT value FROM setting WHERE name = 'retention'").fetchall()
    if before == [(shop.classes.described,)]:
        return []
    rewritten: list[Part] = []
    for part in view_of(cursor).parts:
        if part.file is None:
            continue
        classes = shop.classes.of_series()[shop.files.index(part.file).ids]
        names = {shop.classes.names[number] for number in set(classes.tolist())}
        if names == {part.keeping}:
            continue
        if len(names) == 1:
            cursor.execute("UPDATE part SET keeping = ? WHERE part_id = ?", [names.pop(), part.part_id])
        else:
            merge_parts(shop, cursor, [part])
            rewritten.append(part)
    cursor.execute("BEGIN TRANSACTION")
    cursor.execute("DELETE FROM setting WHERE name = 'retention'")
    cursor.execute("INSERT INTO setting VALUES ('retention', ?)", [shop.classes.described])
    cursor.execute("COMMIT")
    return rewritten

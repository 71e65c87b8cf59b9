"""Where the buffer lies: whether it can be written, how much there is, what it is made of and how fast it commits."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from edge_agent.buffer.room import disk_free_bytes
from edge_agent.config import BufferConfig, Config
from shopfloor.findings import Finding, failure, ok, warning
from shopfloor.owner import nearest
from shopfloor.tables import size_text

_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs", "overlay"})
_OVER_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "fuse.sshfs", "9p", "ceph", "glusterfs"})
_PROBES: Final = 12
_PROBE_BYTES: Final = 4096
_PROBE_LIMIT_S: Final = 3.0
_SLOW_S: Final = 0.05
_WORN_STEP: Final = 8
"""Of eleven that eMMC counts in (JEDEC JESD84-B51, DEVICE_LIFE_TIME_EST): 70 to 80 % of its life is used."""


class Mount(NamedTuple):
    """The file system that holds a folder."""

    point: str
    kind: str
    device: str
    """Major and minor number, as ``254:0``."""
    read_only: bool


def look_at_data_folder(config: Config) -> list[Finding]:
    """Look without writing: the folder, its file system, the space that is left for the buffer."""
    folder, there = config.data, nearest(config.data)
    findings = [_folder(folder, there)]
    mount = mount_of(there)
    if mount is not None:
        findings.append(_file_system(mount))
        findings += _wear(mount)
    findings.append(_space(config.buffer, folder, there))
    return findings


def mount_of(folder: Path, mounts: Path = Path("/proc/self/mountinfo")) -> Mount | None:
    """Return the file system of a folder (proc(5)); None where the kernel does not say."""
    try:
        status = folder.stat()
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
        real = str(folder.resolve())
    except OSError:
        return None
    found: Mount | None = None
    for line in lines:
        words = line.split(" ")
        if len(words) < 10 or "-" not in words:
            continue
        point = _unescaped(words[4])
        after = words[words.index("-") + 1 :]
        above = point in {"/", real} or real.startswith(point + "/")
        # Later lines lie on top of earlier ones with the same point.
        if above and (found is None or len(point) >= len(found.point)):
            found = Mount(point, after[0], words[2], "ro" in words[5].split(","))
    if found is not None and found.device.startswith("0:"):
        # Some file systems (btrfs) have a number of their own; the device's is only in stat().
        found = found._replace(device=f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}")
    return found


def measure_commit(folder: Path) -> Finding:
    """Measure how long the disk takes to make a small write durable, in a file without a name that is gone at once.

    The buffer does the same once a transaction; MQTT acknowledgements and OPC UA Publish requests wait for it.
    """
    times_s: list[float] = []
    begun_s = time.perf_counter()
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            while len(times_s) < _PROBES and time.perf_counter() - begun_s < _PROBE_LIMIT_S:
                before_s = time.perf_counter()
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fdatasync(file.fileno())
                times_s.append(time.perf_counter() - before_s)
    except OSError as error:
        return failure(
            f"{folder}: a small write fails: {error.strerror or error}", "make room, or repair the disk"
        )
    median_s, worst_s = statistics.median(times_s), max(times_s)
    text = f"a small write is durable after {median_s * 1000:.1f} ms (at most {worst_s * 1000:.1f} ms)"
    figures = {"commit_median_s": round(median_s, 6), "commit_max_s": round(worst_s, 6)}
    if median_s > _SLOW_S:
        return warning(
            text,
            "readings wait that long to be acknowledged; a broker's window divided by this time bounds its rate. "
            "Use a faster disk for the data folder, or protocol: 5 with a larger receive_maximum",
            **figures,
        )
    return ok(text, **figures)


def _folder(folder: Path, there: Path) -> Finding:
    if not there.is_dir():
        return failure(f"{there} is in the way: it is no folder", "let data name another folder")
    writable = os.access(there, os.W_OK | os.X_OK)
    who = f"user {os.geteuid()}"
    if not writable:
        return failure(
            f"{folder}: {who} can't write {'it' if there == folder else there}",
            "give the folder to the user that the agent runs as, or let data name another one",
        )
    if there != folder:
        return ok(f"{folder}: will be made at the first start", exists=False)
    foreign = next(
        (file for file in sorted(folder.glob("buffer.sqlite3*")) if not os.access(file, os.W_OK)), None
    )
    if foreign is not None:
        return failure(
            f"{foreign}: {who} can't write it",
            f"chown it to the user that the agent runs as: {foreign.parent}/*",
        )
    return ok(f"{folder}: can be written", exists=True)


def _file_system(mount: Mount) -> Finding:
    text = f"file system {mount.kind} at {mount.point}"
    figures = {"file_system": mount.kind, "mounted_at": mount.point}
    if mount.read_only:
        return failure(
            f"{text} is mounted read-only", "mount it for writing, or let data name another", **figures
        )
    if mount.kind in _IN_MEMORY:
        what = "is the inside of a container" if mount.kind == "overlay" else "lies in memory"
        return warning(
            f"{text} {what}: what waits there does not survive",
            "let data name a folder on a disk (in a container: a volume)",
            **figures,
        )
    if mount.kind in _OVER_NETWORK:
        return warning(
            f"{text} lies on another machine: the buffer is needed most when the network is away",
            "let data name a folder on a disk of this machine",
            **figures,
        )
    return ok(text, **figures)


def _space(limits: BufferConfig, folder: Path, there: Path) -> Finding:
    free = disk_free_bytes(there)
    try:
        taken = sum(file.stat().st_size for file in folder.glob("buffer.sqlite3*")) if folder.is_dir() else 0
    except PermissionError:
        taken = 0  # that it can't be written is another finding
    wanted = max(0, limits.max_bytes - taken) + limits.disk_reserve
    figures = {
        "free_bytes": free,
        "reserve_bytes": limits.disk_reserve,
        "limit_bytes": limits.max_bytes,
        "file_bytes": taken,
    }
    text = (
        f"{size_text(free)} free; the buffer has {size_text(taken)}, may have {size_text(limits.max_bytes)} and leaves "
        f"{size_text(limits.disk_reserve)} to others"
    )
    if free < limits.disk_reserve:
        return failure(
            f"{text}: the reserve is touched, so the buffer is full",
            "make room on the disk, or lower buffer.disk_reserve",
            **figures,
        )
    if free < wanted:
        return warning(
            f"{text}: the disk is full before the buffer is",
            f"make room, or set buffer.max_bytes to {size_text(max(0, free + taken - limits.disk_reserve))} or less",
            **figures,
        )
    return ok(text, **figures)


def _wear(mount: Mount, sys: Path = Path("/sys")) -> Iterator[Finding]:
    """Tell what the storage is where that matters: flash that counts its writes, or a card that does not say."""
    device = (sys / "dev" / "block" / mount.device).resolve()
    cards = [each for each in (device, *device.parents) if each.name.startswith("mmcblk")]
    for each in (device, *device.parents):
        life = each / "device" / "life_time"
        if life.is_file():
            yield _life(life)
            return
    if cards:
        name = cards[-1].name  # behind its partition
        yield warning(
            f"{name} is an SD card: it wears out with every write and does not say how far",
            "put the data folder on an SSD or eMMC, or set buffer.min_commit_interval_ms to 1000: acknowledgements "
            "wait for it, and one write a second carries everything",
            device=name,
        )


def _life(file: Path) -> Finding:
    try:
        steps = [int(word, 16) for word in file.read_text().split()]
    except (OSError, ValueError):
        return ok(f"{file} does not say how worn the flash is")
    step = max(steps, default=0)
    figures = {"flash_life_used": None if not step else min(step * 10, 100)}
    if not step:
        return ok("the flash does not say how worn it is", **figures)
    text = (
        f"{(step - 1) * 10} to {step * 10} % of the flash's life is used"
        if step <= 10
        else "the flash is worn out"
    )
    if step >= _WORN_STEP:
        return warning(
            text, "plan to replace it; buffer.min_commit_interval_ms spares it until then", **figures
        )
    return ok(text, **figures)


def _unescaped(path: str) -> str:
    """Undo the octal escapes of spaces and the like in the kernel's tables."""
    return path.encode().decode("unicode_escape") if "\\" in path else path

"""SIGKILL while the buffer writes: what it had acknowledged is there, numbered without a hole, once."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_agent.buffer import Buffer
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from shopfloor.messages import Lane
from tests.contract.buffer_contract import times_of

WRITER = """
import sys
from pathlib import Path
from tests.contract.buffer_contract import samples
from edge_agent.buffer import Parcel
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
buffer = SqliteBuffer(Path(sys.argv[1]), BufferLimits(disk_reserve_bytes=0), "agent")
print("open", flush=True)
time = int(sys.argv[2])
while True:
    buffer.append([Parcel(samples([time, time + 1, time + 2]), "s", {"last": b"%d" % (time + 2)})])
    print(time + 2, flush=True)
    time += 3
    if time % 5 == 0 and (batch := buffer.peek(2)) is not None:
        buffer.commit(batch.stream_id, batch.last_seq)
        print("delivered", *batch.block.source_time.tolist(), flush=True)
"""


def _open(folder: Path) -> Buffer:
    return SqliteBuffer(folder, BufferLimits(disk_reserve_bytes=0), "agent")


@pytest.mark.parametrize("seed", range(4))
def test_what_was_acknowledged_survives(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    root = Path(__file__).parents[2]
    next_time, delivered = 0, set()
    for _ in range(3):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(next_time)],
            stdout=subprocess.PIPE, text=True, cwd=root, env={"PYTHONPATH": str(root)},
        )  # fmt: skip
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        first = writer.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.2))
        writer.send_signal(signal.SIGKILL)
        lines = (first + writer.stdout.read()).splitlines()
        writer.stdout.close()
        writer.wait()
        for line in lines:
            if line.startswith("delivered"):
                delivered |= set(map(int, line.split()[1:]))
            else:
                acknowledged = int(line)
        # The transaction that was under way may have become durable without being told.
        next_time = acknowledged + 1
    buffer = _open(tmp_path)
    last = int(buffer.state("s")["last"])
    left = times_of(buffer, Lane.BACKLOG)
    while more := times_of(buffer, Lane.BACKLOG):
        left += more
    assert len(left) == len(set(left)), "nothing twice"
    assert set(left) | delivered >= set(range(next_time)), "nothing that was acknowledged is missing"
    assert last == max(left, default=last), "state and samples are one transaction"
    buffer.close()

"""One process of an OPC UA load: a server, its clock, and what the parent wants to know."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from typing import Final

from simulators.load.channel import Channel, Counters, OpcuaJob, ParentGone, Ready, Start, Stop
from simulators.load.opcua_server import LoadServer

_REPORT_S: Final = 0.5
_FLUSH_S: Final = 2.0
_FLUSH_ATTEMPTS: Final = 100
_MAX_SLEEP_S: Final = 0.5


class _Clock:
    """Ticks of a server, in real time and none left out."""

    def __init__(self, server: LoadServer) -> None:
        self._server = server
        self._next = server.plan.newest_tick(time.time() * 1000)
        self.counted_from: int | None = None
        self.ticks_total = 0
        self.late_total = 0
        self.cpu_before_s = 0.0

    async def run(self) -> None:
        plan = self._server.plan
        while True:
            now_ms = time.time_ns() // 1_000_000
            newest = plan.newest_tick(now_ms)
            for tick in range(self._next, newest + 1):
                self._server.tick(tick, now_ms)
                if self.counted_from is not None and tick >= self.counted_from:
                    self.ticks_total += 1
                    self.late_total += tick < newest
            self._next = max(self._next, newest + 1)
            delay_s = plan.tick_ms(self._next) / 1000 - time.time()
            # In pieces: a clock that is set back must not stop us for as long.
            await asyncio.sleep(min(max(delay_s, 0.0), _MAX_SLEEP_S))


async def serve(job: OpcuaJob, channel: Channel) -> None:
    """Serve until told to stop.

    Raises:
        StoreUnavailable: the port can't be had.
        ParentGone: nobody is there any more.
    """
    began_s = time.monotonic()
    # Tens of thousands of nodes that all stay: collecting garbage meanwhile only costs.
    gc.disable()
    machines = range(job.first, job.last)
    server = LoadServer(job.plan, machines, job.number)
    await server.listen(job.host, job.port)
    gc.freeze()
    gc.enable()
    clock = _Clock(server)
    stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def hear() -> None:
        try:
            for command in channel.commands():
                if isinstance(command, Start):
                    clock.counted_from = command.tick
                    clock.cpu_before_s = time.process_time()
                elif isinstance(command, Stop) and not stop.done():
                    stop.set_result(None)
        except ParentGone as error:
            if not stop.done():
                stop.set_exception(error)

    loop = asyncio.get_running_loop()
    loop.add_reader(channel, hear)
    ticking = asyncio.create_task(clock.run())
    try:
        channel.tell(Ready(round(time.monotonic() - began_s, 3)))
        while not stop.done():
            await asyncio.wait([stop, ticking], timeout=_REPORT_S, return_when=asyncio.FIRST_COMPLETED)
            if ticking.done():
                ticking.result()
            channel.tell(_counters(server, clock))
        stop.result()
        ticking.cancel()
        await _flush(server)
        channel.tell(_counters(server, clock))
    finally:
        loop.remove_reader(channel)
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
        await server.stop()


async def _flush(server: LoadServer) -> None:
    """Give subscribers a moment to fetch the last values."""
    for _ in range(_FLUSH_ATTEMPTS):
        subscriptions = server.subscriptions.subscriptions.values()
        if not any(each.monitored_item_srv.queues.pending for each in subscriptions):
            return
        await asyncio.sleep(_FLUSH_S / _FLUSH_ATTEMPTS)


def _counters(server: LoadServer, clock: _Clock) -> Counters:
    subscriptions = server.subscriptions
    return Counters(
        offered_values=clock.ticks_total * len(server.numbers),
        sent_values=subscriptions.sent_values_total + server.served_values_total,
        sent_messages=subscriptions.sent_messages_total,
        acknowledged_messages=subscriptions.acknowledged_total,
        discarded_values=subscriptions.discarded_total,
        late_ticks=clock.late_total,
        subscribers=sum(len(each.monitored_item_srv.queues) for each in subscriptions.subscriptions.values()),
        cpu_s=time.process_time() - clock.cpu_before_s,
    )

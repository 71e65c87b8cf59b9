"""The stream between asyncio and paho, on a transport made by the test."""

from __future__ import annotations

import asyncio

import pytest

from edge_agent.sources.mqtt import stream as stream_module
from edge_agent.sources.mqtt.stream import Stream


class Transport(asyncio.Transport):
    """Notes what is asked of it; never says by itself that it is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.written = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return "close" in self.asked or "abort" in self.asked

    def close(self) -> None:
        self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")

    def pause_reading(self) -> None:
        self.asked.append("pause")

    def resume_reading(self) -> None:
        self.asked.append("resume")


def make() -> tuple[Stream, Transport, list[object]]:
    heard: list[object] = []
    stream, transport = Stream(heard.append, heard.append), Transport()
    stream.connection_made(transport)
    return stream, transport, heard


async def test_a_peer_that_takes_nothing_is_left_by_force() -> None:
    stream, transport, _ = make()
    await stream.wait_closed(0.0)
    assert transport.asked == ["close", "abort"]


async def test_closing_waits_until_all_is_out() -> None:
    stream, transport, heard = make()
    stream.write(b"goodbye")
    closing = asyncio.create_task(stream.wait_closed(60.0))
    await asyncio.sleep(0)
    assert transport.asked == ["close"]
    stream.connection_lost(None)
    await closing
    assert transport.written == b"goodbye"
    assert heard == [None]


async def test_waiting_for_the_broker_to_hang_up_leaves_the_stream_open_until_it_does() -> None:
    stream, transport, _ = make()
    waiting = asyncio.create_task(stream.wait_hung_up(60.0))
    await asyncio.sleep(0)
    assert not waiting.done()
    stream.connection_lost(None)
    await waiting
    assert transport.asked == []


async def test_a_broker_that_does_not_hang_up_is_not_waited_for_for_ever() -> None:
    stream, transport, _ = make()
    await stream.wait_hung_up(0.0)
    assert transport.asked == []
    stream.pause()
    await stream.wait_hung_up(60.0)  # It could not be heard.
    await Stream(lambda _data: None, lambda _error: None).wait_hung_up(60.0)


async def test_a_stream_that_never_opened_closes() -> None:
    await Stream(lambda _data: None, lambda _error: None).wait_closed(60.0)


async def test_nothing_is_written_or_read_once_closing() -> None:
    stream, transport, _ = make()
    stream.close()
    stream.write(b"late")
    stream.pause()
    stream.resume()
    assert transport.written == b""
    assert transport.asked == ["close"]


async def test_pausing_stops_the_reading() -> None:
    stream, transport, _ = make()
    stream.pause()
    assert stream.is_paused
    stream.resume()
    assert not stream.is_paused
    assert transport.asked == ["pause", "resume"]


async def test_paho_reads_one_packet_from_memory() -> None:
    stream, _, _ = make()
    with pytest.raises(BlockingIOError):
        stream.recv(1)
    stream.put_packet(b"\xd0\x00")
    assert [stream.recv(1), stream.recv(5)] == [b"\xd0", b"\x00"]
    with pytest.raises(BlockingIOError):
        stream.recv(1)


async def test_nothing_is_read_during_a_rest_which_ends_by_itself() -> None:
    stream, transport, _ = make()
    stream.rest()
    stream.rest()
    assert transport.asked == ["pause"]
    while "resume" not in transport.asked:
        await asyncio.sleep(0)
    assert not stream.is_paused
    assert transport.asked == ["pause", "resume"]


async def test_whoever_waits_ends_a_rest_and_a_pause_outlasts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "REST_S", 60.0)
    stream, transport, _ = make()
    stream.rest()
    stream.attend()
    stream.attend()
    assert transport.asked == ["pause", "resume"]
    stream.rest()
    stream.pause()
    stream.attend()
    stream.rest()
    assert transport.asked[2:] == ["pause", "pause"]
    stream.resume()
    assert transport.asked[4:] == ["resume"]


async def test_a_stream_that_rests_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "REST_S", 0.0)
    stream, transport, _ = make()
    stream.rest()
    stream.connection_lost(None)
    await stream.wait_closed(60.0)
    stream.rest()
    stream.attend()
    assert transport.asked == ["pause", "close", "abort"]

"""Delivery over a real buffer and a scripted service: what each answer costs, and what it must never cost."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import msgspec
import pytest

from edge_agent.buffer import Parcel
from edge_agent.buffer.sqlite import BufferLimits, SqliteBuffer
from edge_agent.delivery import Delivery, DeliveryLimits
from edge_agent.intake import BufferThread, Intake
from edge_agent.uplink import Answer, BatchTooLarge, Exchange, HttpUplink, NotAuthorised
from shopfloor.errors import BatchRefused, StoreUnavailable, UplinkUnavailable
from shopfloor.messages import REFUSAL_MEDIA_TYPE, Batch, Lane, Receipt, SpanKind, SpanRecord
from shopfloor.wire import decode_batch
from tests.contract.buffer_contract import samples

Script = Callable[[httpx.Request], httpx.Response]


def exchange(answer: Script) -> Exchange:
    """Let a function of HTTP requests stand for the network."""

    async def exchanged(method: str, path: str, body: bytes, media_type: str) -> Answer:
        headers = {"content-type": media_type}
        request = httpx.Request(method, f"http://service{path}", content=body, headers=headers)
        try:
            response = answer(request)
        except httpx.HTTPError as error:
            raise UplinkUnavailable(str(error)) from error
        heads = response.headers
        return Answer(
            response.status_code,
            response.content,
            heads.get("content-type", ""),
            heads.get("retry-after", ""),
        )

    return exchanged


class Service:
    """Answers what the script says, then takes everything, exactly as an honest service would."""

    def __init__(self) -> None:
        self.script: list[Script] = []
        self.times: list[int] = []
        self.lanes: list[Lane] = []
        self.spans: list[SpanRecord] = []
        self.order: list[str] = []
        self.watermarks: dict[str, int] = {}

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.order.append(request.url.path)
        if self.script:
            return self.script.pop(0)(request)
        if request.url.path == "/v1/spans":
            self.spans += msgspec.json.decode(request.content, type=list[SpanRecord])
            return httpx.Response(204)
        return self.take(request)

    def take(self, request: httpx.Request) -> httpx.Response:
        batch = decode_batch(request.content)
        mark = self.watermarks.get(batch.stream_id, 0)
        assert batch.first_seq <= mark + 1 or self.spans, (
            "a stream is sent in order, a hole only after its record"
        )
        for number, time in enumerate(batch.block.source_time.tolist()):
            if batch.first_seq + number > mark:
                self.times.append(time)
        self.lanes.append(batch.lane)
        self.watermarks[batch.stream_id] = mark = max(mark, batch.last_seq)
        return httpx.Response(200, content=msgspec.json.encode(Receipt(mark, mark)))


def status(code: int, text: str = "", **headers: str) -> Script:
    return lambda _: httpx.Response(
        code, text=text, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


def refusal(text: str) -> Script:
    return lambda _: httpx.Response(
        422, content=b'{"refused": "%s"}' % text.encode(), headers={"content-type": REFUSAL_MEDIA_TYPE}
    )


def broken(_: httpx.Request) -> httpx.Response:
    raise httpx.ReadError("connection reset")


class Rig:
    def __init__(self, folder: Path, service: Service) -> None:
        self.executor = ThreadPoolExecutor(1)
        self.buffer = SqliteBuffer(folder, BufferLimits(disk_reserve_bytes=0), "agent")
        thread = BufferThread(self.buffer, self.executor)
        self.uplink = HttpUplink(exchange(service))
        self.intake = Intake(thread)
        limits = DeliveryLimits(batch_samples=4, linger_s=0.0, retry_first_s=0.001, retry_limit_s=0.002)
        self.delivery = Delivery(thread, self.intake, self.uplink, limits)

    async def until(self, done: Callable[[], bool], *more: Callable[[], Coroutine[None, None, None]]) -> None:
        runs: list[Callable[[], Coroutine[None, None, None]]] = [
            self.intake.run, self.delivery.run_live, self.delivery.run_backlog, *more,
        ]  # fmt: skip
        tasks = [asyncio.create_task(run()) for run in runs]
        try:
            async with asyncio.timeout(10):
                while not done():
                    await asyncio.sleep(0.001)
        finally:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with contextlib.suppress(asyncio.CancelledError):
                    await task


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def rig(tmp_path: Path, service: Service) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path, service)
    yield rig
    rig.buffer.close()
    rig.executor.shutdown()


@pytest.mark.parametrize(
    "answers",
    [
        [broken, broken],
        [status(503, "busy", retry_after="0")],
        [status(400, "<html>proxy says no</html>"), status(502), status(404), status(301)],
        [status(200, "<html>please log in to the WLAN</html>"), status(204)],
        [status(200, '{"received_through": 3, "durable_through": 9}')],
        [status(422, '{"refused": "but by a proxy"}')],
        [status(429, retry_after="0"), status(500)],
        [status(503, '{"error": "wire_version", "supported": [1]}', retry_after="0")],
    ],
    ids=lambda answers: str(len(answers)),
)
async def test_whatever_answers_costs_time_and_no_sample(
    rig: Rig, service: Service, answers: list[Script]
) -> None:
    service.script = answers
    rig.buffer.append([Parcel(samples(list(range(10))))])
    await rig.until(lambda: rig.buffer.stats().pending_samples == 0)
    assert service.times == list(range(10))
    assert rig.buffer.spans(10) == []
    assert rig.delivery.report.failures_total >= len(answers)


async def test_a_lost_acknowledgement_costs_a_repeat_that_the_service_drops(
    rig: Rig, service: Service
) -> None:
    def take_and_lose(request: httpx.Request) -> httpx.Response:
        service.take(request)
        raise httpx.ReadTimeout("lost")

    service.script = [take_and_lose, take_and_lose]
    rig.buffer.append([Parcel(samples(list(range(6))))])
    await rig.until(lambda: rig.buffer.stats().pending_samples == 0)
    assert service.times == list(range(6))


async def test_a_typed_refusal_sets_the_batch_aside_and_goes_on(
    rig: Rig, service: Service, tmp_path: Path
) -> None:
    service.script = [refusal("not a batch")]
    rig.buffer.append([Parcel(samples(list(range(10))))])
    await rig.until(lambda: rig.buffer.stats().pending_samples == 0 and len(service.spans) == 1)
    assert service.times == [4, 5, 6, 7, 8, 9]
    (span,) = service.spans
    assert (span.first_seq, span.last_seq, span.reason) == (1, 4, "not a batch")
    (file,) = (tmp_path / "quarantine").iterdir()
    assert decode_batch(file.read_bytes()).block.source_time.tolist() == [0, 1, 2, 3]


async def test_a_batch_that_is_too_large_is_halved_until_it_fits(rig: Rig, service: Service) -> None:
    def small_only(request: httpx.Request) -> httpx.Response:
        if len(decode_batch(request.content).block) > 1:
            service.script.insert(0, small_only)
            return httpx.Response(413)
        return service.take(request)

    service.script = [small_only]
    rig.buffer.append([Parcel(samples(list(range(8))))])
    await rig.until(lambda: rig.buffer.stats().pending_samples == 0)
    assert service.times == list(range(8))
    assert rig.buffer.spans(10) == []


async def test_a_limit_once_learned_is_not_run_into_with_every_second_batch(
    rig: Rig, service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    def at_most_hundred(request: httpx.Request) -> httpx.Response:
        service.script.insert(0, at_most_hundred)
        if len(decode_batch(request.content).block) > 100:
            return httpx.Response(413, text="at most 100")
        return service.take(request)

    rig.delivery.limits = DeliveryLimits(batch_samples=400, linger_s=0.0)
    service.script = [at_most_hundred]
    rig.buffer.append([Parcel(samples(list(range(2000))))])
    await rig.until(lambda: rig.buffer.stats().pending_samples == 0)
    assert sorted(service.times) == list(range(2000))
    assert 2 <= rig.delivery.report.too_large_total <= 8
    assert len([line for line in caplog.messages if "at most 100" in line]) == 1


async def test_a_single_sample_that_is_too_large_does_not_block_the_stream(
    rig: Rig, service: Service
) -> None:
    service.script = [status(413), status(413), status(413)]
    rig.buffer.append([Parcel(samples(list(range(4))))])
    await rig.until(lambda: rig.buffer.stats().pending_samples == 0 and len(service.spans) == 1)
    assert service.times == [1, 2, 3]
    assert service.spans[0].count == 1


async def test_a_wrong_token_keeps_the_data_and_raises_an_alarm(rig: Rig, service: Service) -> None:
    service.script = [status(401, "unknown token")] * 1000
    rig.buffer.append([Parcel(samples([1]))])
    await rig.until(lambda: rig.delivery.report.unauthorised)
    assert rig.buffer.stats().pending_samples == 1


async def test_span_records_travel_before_the_batches_that_they_explain(rig: Rig, service: Service) -> None:
    rig.buffer.append([Parcel(samples(list(range(4))))])
    batch = rig.buffer.peek(2)
    assert batch is not None
    rig.buffer.quarantine(batch, "x")
    await rig.until(lambda: rig.buffer.stats().pending_samples == 0)
    assert service.order[0] == "/v1/spans"
    assert service.times == [2, 3]


async def test_far_behind_new_samples_are_sent_at_once_and_the_old_drain_beside(
    rig: Rig, service: Service
) -> None:
    rig.buffer.append([Parcel(samples(list(range(100))))])

    async def machine() -> None:
        while not rig.delivery.report.batches_total:
            await asyncio.sleep(0)
        for time in range(1000, 1010):
            await rig.intake.put(Parcel(samples([time])))

    await rig.until(lambda: len(service.times) == 110 and rig.buffer.stats().pending_samples == 0, machine)
    assert sorted(service.times) == [*range(100), *range(1000, 1010)]
    assert Lane.BACKLOG in service.lanes
    assert service.times.index(1009) < service.times.index(99)


async def test_puts_that_wait_together_share_a_transaction(rig: Rig) -> None:
    writer = asyncio.create_task(rig.intake.run())
    await asyncio.gather(*(rig.intake.put(Parcel(samples([time]))) for time in range(200)))
    writer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writer
    assert rig.intake.commits_total <= 3
    assert rig.buffer.stats().appended_samples_total == 200


async def test_a_put_that_the_disk_refuses_fails_and_the_next_one_is_tried(rig: Rig) -> None:
    writer = asyncio.create_task(rig.intake.run())
    rig.buffer._holding.file._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StoreUnavailable):
        await rig.intake.put(Parcel(samples([1])))
    rig.buffer._holding.file._db.execute("PRAGMA query_only = 0")
    await rig.intake.put(Parcel(samples([1])))
    writer.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writer
    assert rig.buffer.stats().pending_samples == 1
    assert rig.buffer.stats().repeats_total == 0


@pytest.mark.parametrize(
    ("answer", "error", "retry_after_s"),
    [
        (status(401), NotAuthorised, 30.0),
        (status(403, retry_after="5"), NotAuthorised, 5.0),
        (status(413), BatchTooLarge, None),
        (status(503, retry_after="7"), UplinkUnavailable, 7.0),
        (status(503, retry_after="99999999"), UplinkUnavailable, 300.0),
        (status(503, retry_after="soon"), UplinkUnavailable, None),
        (status(429, retry_after="Sun, 22 Nov 2026 10:00:10 GMT"), UplinkUnavailable, 10.0),
        (refusal("no"), BatchRefused, None),
        (broken, UplinkUnavailable, None),
    ],
)
async def test_answers_and_errors(
    answer: Script, error: type[Exception], retry_after_s: float | None
) -> None:
    uplink = HttpUplink(exchange(answer), now_s=lambda: 1795341600.0)
    with pytest.raises(error) as caught:
        await uplink.send(Batch("agent", "s", Lane.LIVE, 1, samples([1])))
    assert type(caught.value) is error
    assert getattr(caught.value, "retry_after_s", None) == retry_after_s


async def test_loss_records_say_whose_they_are() -> None:
    bodies: list[bytes] = []

    async def answer(_method: str, _path: str, body: bytes, _media_type: str) -> Answer:
        bodies.append(body)
        return Answer(204, b"", "", "")

    gap = SpanRecord(
        record_id="r", stream_id="", kind=SpanKind.SOURCE_GAP, reason="x", from_time=0, to_time=1, count=0
    )
    await HttpUplink(answer, agent_id="gateway-7").send_spans([gap])
    assert msgspec.json.decode(bodies[0])[0]["agent_id"] == "gateway-7"

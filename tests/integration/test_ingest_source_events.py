"""What an agent's sources met reaches those who look at the agents, also over a restart of the service."""

from pathlib import Path

from tests.integration.ingest_server import IMM, STRANGER, heartbeat, running

SOURCE = {"name": "imm-01", "protocol": "opcua", "state": "running", "since": 1, "assets": [IMM]}
MET = {"not_convertible": 3, "poll_overrun": 12}


async def test_events_and_configuration_of_agents_are_shown(tmp_path: Path) -> None:
    told = heartbeat(sources=({**SOURCE, "events": MET}, {**SOURCE, "name": "imm-02"}))
    told |= {"config_valid": False, "config_message": "agent.yaml:6:38: sources: unknown key"}
    async with running(tmp_path) as plant:
        answer = await plant.client.post("/v1/heartbeats", json=told, headers=plant.agent)
        assert answer.status_code == 200, answer.text
        many = {f"event_{number}": 1 for number in range(65)}
        answer = await plant.client.post(
            "/v1/heartbeats", json=heartbeat(sources=({**SOURCE, "events": many},)), headers=plant.agent
        )
        assert answer.status_code == 400
    async with running(tmp_path) as plant:
        (agent,) = (await plant.get("/v1/agents"))["agents"]
    assert agent["source_events"] == {"imm-01": MET}
    assert agent["config_valid"] is False
    assert agent["config_message"] == "agent.yaml:6:38: sources: unknown key"


async def test_a_heartbeat_of_an_earlier_agent_is_taken(tmp_path: Path) -> None:
    async with running(tmp_path) as plant:
        answer = await plant.client.post(
            "/v1/heartbeats", json=heartbeat(sources=(SOURCE,)), headers=plant.agent
        )
        assert answer.status_code == 200, answer.text
        (agent,) = (await plant.get("/v1/agents"))["agents"]
    assert agent["source_events"] == {}
    assert agent["config_valid"] is True


async def test_a_source_whose_asset_lies_outside_costs_the_heartbeat_nothing_else(tmp_path: Path) -> None:
    async with running(tmp_path) as plant:
        assets = [str(IMM), str(STRANGER.asset), "No Path"]
        source = {"name": "s", "protocol": "opcua", "state": "running", "since": 0, "assets": assets}
        beat = heartbeat(sources=(source,))
        answer = await plant.client.post("/v1/heartbeats", json=beat, headers=plant.agent)
        assert answer.status_code == 200
        assert answer.json()["outside"] == [str(STRANGER.asset), "No Path"]
        (agent,) = (await plant.get("/v1/agents"))["agents"]
        assert agent["contact"]
        assert agent["outside"] == [str(STRANGER.asset), "No Path"]
        assert plant.service.book.contact(str(IMM), plant.service.clock_ns()).ok
        assert not plant.service.book.contact(str(STRANGER.asset), plant.service.clock_ns()).ok


async def test_declarations_are_taken_as_far_as_the_token_reaches(tmp_path: Path) -> None:
    async with running(tmp_path) as plant:
        series = [
            {"asset": str(IMM), "signal": "a", "unit": "bar"},
            {"asset": str(STRANGER.asset), "signal": "b"},
            {"asset": str(IMM), "signal": "Not A Signal"},
        ]
        body = {"agent_id": "gateway", "config_hash": "h1", "series": series}
        answer = await plant.client.put("/v1/declarations", json=body, headers=plant.agent)
        assert answer.status_code == 200
        told = answer.json()
        assert (told["taken"], told["left_out"], [one["place"] for one in told["first"]]) == (1, 2, [1, 2])
        assert plant.service.declared == {(str(IMM), "a"): ("bar", "")}
        answer = await plant.client.put(
            "/v1/declarations", json=body | {"series": series[:1]}, headers=plant.agent
        )
        assert answer.status_code == 204

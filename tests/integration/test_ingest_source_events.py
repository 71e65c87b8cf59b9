"""What an agent's sources met reaches those who look at the agents, also over a restart of the service."""

from pathlib import Path

from tests.integration.ingest_server import IMM, heartbeat, running

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

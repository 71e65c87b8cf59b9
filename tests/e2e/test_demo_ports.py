"""The demo's ports: the same over restarts, others only where one is taken."""

from __future__ import annotations

import socket
from pathlib import Path

from simulators.demo.ports import HOST, assign_ports, listens


def test_ports_stay_the_same_over_restarts(tmp_path: Path) -> None:
    names = ["page", "mqtt", "agent-hk01"]
    ports = assign_ports(tmp_path, names, {})
    assert len(set(ports.values())) == 3
    assert assign_ports(tmp_path, names, {}) == ports
    grown = assign_ports(tmp_path, [*names, "agent-vn01"], {})
    assert {name: grown[name] for name in names} == ports


def test_a_taken_port_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    ports = assign_ports(tmp_path, ["page", "mqtt"], {})
    with socket.create_server((HOST, ports["mqtt"])):
        again = assign_ports(tmp_path, ["page", "mqtt"], {})
    assert again["page"] == ports["page"]
    assert again["mqtt"] != ports["mqtt"]
    assert assign_ports(tmp_path, ["page", "mqtt"], {}) == again


def test_a_wish_comes_before_the_last_choice_but_not_before_its_owner(tmp_path: Path) -> None:
    first = assign_ports(tmp_path, ["page"], {})["page"]
    with socket.create_server((HOST, 0)) as taken:
        assert assign_ports(tmp_path, ["page"], {"page": taken.getsockname()[1]})["page"] == first


def test_a_damaged_port_file_costs_nothing_but_other_ports(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text('{"page": 80')
    assert assign_ports(tmp_path, ["page"], {})["page"] > 0


def test_listening_is_seen_from_outside() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        assert listens(port)
    assert not listens(port)

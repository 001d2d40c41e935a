"""An OpenDRIVE file written here, as a Road; its lanes and signs are tested where they are read (test_carla_map)."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from test_carla_map import XODR

from karp_perception.core import BackendUnavailable, InvalidInput
from karp_perception.maps.files import MapSettings, read_map
from karp_perception.maps.routes import route_between


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "junction.xodr"
    path.write_text(XODR)
    return path


def test_a_route_through_a_file_changes_lanes_and_turns_on_the_arc(file: Path) -> None:
    pytest.importorskip("carla", reason="needs the carla package: pip install 'karp_perception[carla]'")
    road = read_map(MapSettings(file=str(file)))
    assert road is not None
    route = route_between(road.lanes, np.array([10.0, -1.75]), np.array([58.25, -33.5]), yaw=0.0)
    np.testing.assert_allclose(route.points[[0, -1]], [[10.0, -1.75], [58.25, -33.5]], atol=0.05)
    assert route.speed_limit == pytest.approx(50 / 3.6)
    turn = route.points[(route.points[:, 0] > 50.1) & (route.points[:, 1] > -13.4)]
    np.testing.assert_allclose(np.hypot(turn[:, 0] - 50.0, turn[:, 1] + 13.5), 8.25, atol=0.01)
    moved = read_map(MapSettings(file=str(file), x=1000.0, yaw=math.pi))
    assert moved is not None
    for before, after in zip(road.lanes, moved.lanes, strict=True):
        np.testing.assert_allclose(after.center, [1000.0, 0.0] - before.center, atol=1e-9)


def test_a_file_that_cannot_be_read_and_a_missing_package_are_told_in_one_line(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("carla", reason="needs the carla package: pip install 'karp_perception[carla]'")
    file.write_text("<OpenDRIVE/>")
    with pytest.raises(InvalidInput, match="without any") as raised:
        read_map(MapSettings(file=str(file)))
    assert "\n" not in str(raised.value)
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="readable OpenDRIVE file"):
        read_map(MapSettings(file=str(file)))
    monkeypatch.setitem(__import__("sys").modules, "carla", None)
    with pytest.raises(BackendUnavailable, match=r"pip install 'karp_perception\[carla\]'"):
        read_map(MapSettings(file=str(file)))

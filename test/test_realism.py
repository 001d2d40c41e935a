"""Statistics of sweeps on scenes whose answer is known, and the comparison of two sides."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from karp_perception.core import Boxes, ConfigurationError, InvalidInput, LidarSweep, ObjectClass
from karp_perception.evaluation import realism
from karp_perception.evaluation.camera_view import View
from karp_perception.evaluation.restaging import paired, restage
from karp_perception.evaluation.sweep_statistics import Quantity, Scan, statistics
from karp_perception.world.geometry.cast import Carrier
from karp_perception.world.geometry.ground import Ground
from karp_perception.world.geometry.materials import Material
from karp_perception.world.geometry.scene import Bodies, Body, Scene
from karp_perception.world.geometry.shape import ShapeBuilder
from karp_perception.world.models.family import Family, Sizes
from karp_perception.world.models.model import Model
from karp_perception.world.sensors.lidar import Lidar
from karp_perception.world.sensors.lidar_models import lidar_named

ELEVATIONS = np.linspace(-15.0, 15.0, 16)
ORIGIN = np.array([0.0, 0.0, 2.0])


def boxes(*rows: tuple[float, float, ObjectClass]) -> Boxes:
    """Boxes of 4 x 2 x 1.5 m on the ground."""
    n = len(rows)
    center = [(x, y, 0.75) for x, y, _ in rows]
    return Boxes(
        np.reshape(center, (n, 3)), np.tile([4.0, 2.0, 1.5], (n, 1)), np.zeros(n), np.zeros((n, 2)),
        [int(label) for *_, label in rows], np.ones(n),
    )  # fmt: skip


def ground(shade: float = 0.2) -> np.ndarray:
    """Points on level ground, 4 to 30 m away."""
    r, a = np.meshgrid(np.arange(4.0, 30.0, 0.5), np.radians(np.arange(0.0, 360.0, 1.0)))
    return np.stack([r * np.cos(a), r * np.sin(a), 0 * r, np.full_like(r, shade)], axis=-1).reshape(-1, 4)


def cluster(x: float, y: float, z: float, count: int, shade: float) -> np.ndarray:
    rng = np.random.default_rng(count)
    spread = rng.uniform(-0.3, 0.3, (count, 3))
    return np.concatenate([spread + np.array([x, y, z]), np.full((count, 1), shade)], axis=1)


def scan(parts: list[np.ndarray], labels: Boxes, **changes: object) -> Scan:
    points = np.concatenate(parts).astype(np.float32)
    return Scan(points, labels, ORIGIN, ELEVATIONS, pulses=40000, nearest=1.0, **changes)


def test_shares_heights_and_points_of_a_scene_laid_out_by_hand() -> None:
    plain = ground()
    cars = [cluster(12.0, 6.0, 1.0, 40, 0.5), cluster(14.0, -6.0, 1.0, 60, 0.5), cluster(25.0, 0.0, 1.0, 20, 0.5)]
    person = [cluster(-6.0, 0.0, 1.0, 30, 0.4)]
    bush = [cluster(-12.0, 8.0, 1.7, 200, 0.3)]
    labels = boxes(
        (12.0, 6.0, ObjectClass.CAR), (14.0, -6.0, ObjectClass.CAR), (25.0, 0.0, ObjectClass.CAR),
        (-6.0, 0.0, ObjectClass.PEDESTRIAN), (35.0, 0.0, ObjectClass.CAR),
    )  # fmt: skip
    found = statistics([scan([plain, *cars, *person, *bush], labels)])
    total = len(plain) + 150 + 200
    assert found["returns: of pulses fired"].value == pytest.approx(total / 40000)
    assert found["share: ground"].value == pytest.approx(len(plain) / total, abs=1e-6)
    assert found["share: labelled"].value == pytest.approx(150 / total, abs=1e-6)
    assert found["share: clutter"].value == pytest.approx(200 / total, abs=1e-6)
    assert found["points: car 10-20 m"] == Quantity(50.0, 2)
    assert found["points: car 20-30 m"] == Quantity(20.0, 1)
    assert found["points: pedestrian 0-10 m"] == Quantity(30.0, 1)
    assert "points: car 30-40 m" not in found  # labelled, but nothing of it was met
    heights = [quantity.value for name, quantity in found.items() if name.startswith("height")]
    assert sum(heights) == pytest.approx(1.0)
    assert found["height: -0.2-0.2 m"].value == pytest.approx(len(plain) / total, abs=1e-6)
    assert found["height: 1.5-2 m"].value == pytest.approx(200 / total, abs=0.01)
    assert [found[f"intensity: {of} p50"].value for of in ("ground", "car", "rest")] == pytest.approx([0.2, 0.5, 0.3])
    ranges = np.linalg.norm(plain[:, :3] - ORIGIN, axis=1)
    assert found["ground: range p95"].value == pytest.approx(np.quantile(ranges, 0.95), rel=0.01)


def test_rings_are_told_by_elevation_and_the_own_vehicle_is_left_out() -> None:
    points = []
    for ring, elevation in enumerate(np.radians(ELEVATIONS)):
        azimuth = np.radians(np.arange(0.0, 360.0, 360.0 / (10 * (ring + 1))))
        ones = np.ones_like(azimuth)
        x, y = 20 * np.cos(elevation) * np.cos(azimuth), 20 * np.cos(elevation) * np.sin(azimuth)
        points.append(np.stack([x, y, 2.0 + 20 * np.sin(elevation) * ones, 0.1 * ones], axis=1))
    own = cluster(0.2, 0.0, 1.8, 500, 0.9)
    found = statistics([scan([*points, own], boxes())])
    counts = np.array([10 * (2 * k + 1) + 10 * (2 * k + 2) for k in range(8)])
    measured = [found[f"returns: rings {k}/8"].value for k in range(1, 9)]
    np.testing.assert_allclose(measured, counts / counts.sum(), atol=1e-6)
    assert found["returns: of pulses fired"].value == pytest.approx(counts.sum() / 40000)


def test_only_what_the_camera_sees_counts_where_labels_end_there() -> None:
    ahead = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])
    view = View(np.array([[100.0, 0, 100], [0, 100, 50], [0, 0, 1]]), ahead, 200, 100)
    parts = [ground(), cluster(12.0, 0.0, 1.0, 40, 0.5), cluster(-12.0, 0.0, 1.0, 40, 0.5)]
    labels = boxes((12.0, 0.0, ObjectClass.CAR), (-12.0, 0.0, ObjectClass.CAR), (8.5, 8.5, ObjectClass.CAR))
    found = statistics([scan(parts, labels, view=view)])
    assert found["points: car 10-20 m"] == Quantity(40.0, 1)
    x, y, z, _ = ground().T
    with np.errstate(divide="ignore"):
        seen = (x > 0) & (np.abs(y / x) <= 1.0) & ((1.5 - z) / x <= 0.5)
    assert found["returns: of pulses fired"].value == pytest.approx((seen.sum() + 40) / 40000, rel=0.02)


def test_a_side_equals_itself_and_what_differs_by_more_than_the_factor_is_off() -> None:
    side = statistics([scan([ground(), cluster(12.0, 0.0, 1.0, 40, 0.5)], boxes((12.0, 0.0, ObjectClass.CAR)))])
    rows = realism.compare(side, side)
    assert all(row.ratio in (1.0, None) for row in rows)
    assert all(row.within in (True, None) for row in rows)
    real = {
        "share: ground": Quantity(0.4, 3),
        "points: car 10-20 m": Quantity(100.0, 5),
        "height: 5-40 m": Quantity(0.001, 3),
    }
    world = {
        "share: ground": Quantity(0.61, 9),
        "points: car 10-20 m": Quantity(140.0, 50),
        "height: 5-40 m": Quantity(0.009, 9),
    }
    by_name = {row.name: row for row in realism.compare(real, world)}
    assert by_name["share: ground"].within is False
    assert by_name["share: ground"].ratio == pytest.approx(0.61 / 0.4)
    assert by_name["points: car 10-20 m"].within is True
    assert by_name["height: 5-40 m"].within is None  # a percent of the returns says nothing
    one = realism.compare({"points: car 10-20 m": Quantity(100.0, 1)}, {"points: bus 0-10 m": Quantity(5.0, 9)})
    assert [(row.real, row.world, row.ratio, row.within) for row in one] == [
        (100.0, None, None, None), (None, 5.0, None, None)
    ]  # fmt: skip


def write_frame(folder: Path, source: str) -> None:
    folder.mkdir(parents=True)
    label = {"label": "car", "center": [12.0, 0.0, 0.75], "size": [4.0, 2.0, 1.5], "yaw": 0.0}
    (folder / "frame.json").write_text(json.dumps({"source": source, "boxes": [label], "cameras": []}))
    points = np.concatenate([ground(), cluster(12.0, 0.0, 1.0, 40, 0.5)]).astype("<f4")
    points.tofile(folder / "points.bin")


def fake_world(*_: object) -> Iterator[tuple[LidarSweep, Boxes]]:
    points = np.concatenate([ground(), cluster(15.0, 0.0, 1.0, 80, 0.5)]).astype(np.float32)
    for _ in range(5):
        yield LidarSweep(points, 0), boxes((15.0, 0.0, ObjectClass.CAR))


def test_the_whole_comparison_is_printed_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for k in range(4):
        write_frame(tmp_path / "frames" / f"a{k}", "KITTI object")
    write_frame(tmp_path / "frames" / "b0", "nuScenes v1.0-mini")
    monkeypatch.setattr(realism, "embedded_frames", fake_world)
    out = tmp_path / "rows.json"
    found = realism.run([tmp_path / "frames"], frames=5, file=out)
    assert set(found) == {"hdl64e", "hdl32e"}
    row = next(row for row in found["hdl64e"] if row.name == "points: car 10-20 m")
    assert (row.real, row.world, row.objects, row.within) == (40.0, 80.0, (4, 5), False)
    assert json.loads(out.read_text()) == json.loads(json.dumps(realism.as_json(found)))
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(realism.table("hdl64e", found["hdl64e"]))
    text = console.export_text()
    assert "points: car 10-20 m" in text
    assert "2.00" in text
    assert "off" in text


def standing(size: tuple[float, float, float]) -> Family:
    """A family whose members are plain blocks that fill their box."""

    def make(rng: np.random.Generator, size: tuple[float, float, float]) -> Model:
        shape = ShapeBuilder().block((0, 0, 0.5 * size[2]), size, Material.CONCRETE).build()
        return Model("block", ObjectClass.CAR, size, shape)

    return Family("block", ObjectClass.CAR, Sizes(size, (0.1, 0.1, 0.1)), make)


def recorded(labels: Boxes, hidden_by: list[Body] = []) -> Scan:  # noqa: B006
    """A sweep of blocks in the place of labels, and of what stands before them."""
    family, bodies = standing((4.0, 2.0, 1.5)), list(hidden_by)
    for i in range(len(labels)):
        model = family.make(np.random.default_rng(0), tuple(labels.size[i]))
        place = labels.center[i] - (0, 0, 0.5 * labels.size[i, 2])
        bodies.append(Body(model.shape, tuple(place), float(labels.yaw[i])))
    model = lidar_named("hdl32e")
    scene = Scene(Ground.flat(), Bodies.of(bodies), Bodies.of([])).rays(0.0, 0.0, 100.0)
    T = np.eye(4)
    T[2, 3] = 2.0
    points = Lidar(model, T).sweep(*scene, Carrier(np.eye(4)), 0, 99).sweep.points
    return Scan(points, labels, ORIGIN, np.array(model.elevations), model.columns * model.beams)


def test_objects_staged_again_get_as_many_points_as_they_had() -> None:
    labels = boxes(*((x, y, ObjectClass.CAR) for x, y in ((8.0, 3.0), (15.0, -6.0), (-25.0, 4.0), (-12.0, -9.0))))
    families = {"block": standing((4.2, 1.9, 1.6))}
    again = restage(recorded(labels), lidar_named("hdl32e"), families)
    assert again.kind == ("car",) * 4
    np.testing.assert_allclose(again.world, again.real, rtol=0.12, atol=3)
    assert (np.abs(np.log(again.world_shades / again.real_shades)) < np.log(4.0)).all()  # no two bodies are alike
    real, world = paired([again, again])
    assert real["restaged: car 10-20 m"].count == 4
    assert real["restaged: car 10-20 m"].value == pytest.approx(
        np.sqrt(np.prod(again.real[[i for i in range(4) if 10 <= again.distance[i] < 20]]))
    )
    assert world["restaged: car 20-30 m"].value == pytest.approx(again.world[again.distance > 20][0])


def test_what_is_hidden_or_looks_like_no_family_is_not_staged_again() -> None:
    labels = boxes((8.0, 3.0, ObjectClass.CAR), (20.0, -6.0, ObjectClass.CAR))
    wall = Body(ShapeBuilder().block((0, 0, 2.0), (0.3, 1.6, 4.0), Material.CONCRETE).build(), (14.0, -4.9, 0.0), -0.3)
    half = recorded(labels, [wall])
    on = labels.contains(half.points[:, :3].astype(float), 0.1).sum(axis=1)
    assert on[1] >= 5  # some of it shows
    again = restage(half, lidar_named("hdl32e"), {"block": standing((4.2, 1.9, 1.6))})
    assert again.distance.tolist() == pytest.approx([np.hypot(8.0, 3.0)])
    assert restage(half, lidar_named("hdl32e"), {"block": standing((12.0, 2.5, 3.5))}).kind == ()


@pytest.mark.data
def test_recorded_objects_get_as_many_points_when_staged_again(recorded_data: Path) -> None:
    from karp_perception.world.models.catalogue import FAMILIES

    scans = realism.real_scans(sorted((recorded_data / "labelled").glob("sustech_*")))
    (name,) = scans
    again = [restage(each, lidar_named(name), FAMILIES, draws=2) for each in scans[name]]
    rows = realism.compare(*paired(again))
    judged = {row.name: row.within for row in rows if row.within is not None and "intensity" not in row.name}
    assert len(judged) >= 6
    assert all(judged.values()), judged


def test_bad_input_gets_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected labelled frames with lidar"):
        realism.real_scans([tmp_path])
    write_frame(tmp_path / "c", "somebody's car")
    with pytest.raises(ConfigurationError, match="does not tell which lidar"):
        realism.real_scans([tmp_path])
    assert set(realism.real_scans([tmp_path], "vlp16")) == {"vlp16"}
    with pytest.raises(ConfigurationError, match="lidar 'vlp17'"):
        realism.real_scans([tmp_path], "vlp17")
    with pytest.raises(ConfigurationError, match="at least one frame"):
        realism.run([tmp_path], frames=0)
    (tmp_path / "c" / "points.bin").write_bytes(bytes(12))
    with pytest.raises(InvalidInput):
        realism.real_scans([tmp_path], "vlp16")

"""Files of the KITTI tracking benchmark, the commands on them, and what a recording without ego motion gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from karp_perception import cli
from karp_perception.core.errors import ConfigurationError, InvalidInput
from karp_perception.evaluation.tracking import evaluate_tracking, read_sequences
from karp_perception.sensing.datasets.kitti_tracking import (
    KittiRows,
    boxes_of,
    read_detections,
    read_tracks,
    rows_of,
    write_tracks,
)
from karp_perception.tracking.recorded import track_kitti

FRAMES = 60


def drive(speed: float = 10.0, yaw_rate: float = 0.0, seed: int = 0) -> tuple[KittiRows, KittiRows]:
    """Labels and detections of parked cars and one that drives ahead, seen from a vehicle that drives and turns."""
    rng = np.random.default_rng(seed)
    parked = [(float(x), side * 4.0 + 0.3 * rng.normal()) for x in range(8, 110, 7) for side in (-1, 1)]
    table, x, y, yaw = [], 0.0, 0.0, 0.0
    for frame in range(FRAMES):
        ahead = (12.0 + 0.1 * (speed + 1.0) * frame, 0.0)
        things = [(i + 1, *place) for i, place in enumerate(parked)] + ([(0, *ahead)] if yaw_rate == 0 else [])
        for who, px, py in things:
            dx, dy = px - x, py - y
            forward, left = np.cos(yaw) * dx + np.sin(yaw) * dy, np.cos(yaw) * dy - np.sin(yaw) * dx
            if 3 < forward < 60 and abs(left) < 0.8 * forward:
                table.append((frame, who, forward, left, -yaw))
        x, y = x + 0.1 * speed * np.cos(yaw), y + 0.1 * speed * np.sin(yaw)
        yaw += 0.1 * yaw_rate
    a = np.array(table)
    n = len(a)
    truth = _rows(a, np.full(n, -1.0), np.zeros(n), np.zeros(n))
    seen = rng.random(n) < 0.95
    m = int(seen.sum())
    noise = rng.normal(0, 0.1, (2, m))
    found = _rows(a[seen], rng.normal(7, 1.5, m), *noise)
    return truth, KittiRows(**{**_columns(found), "track_id": np.full(m, -1)})


def _columns(rows: KittiRows) -> dict[str, np.ndarray]:
    return {name: getattr(rows, name) for name in rows.__dataclass_fields__}


def _rows(a: np.ndarray, score: np.ndarray, dx: np.ndarray, dy: np.ndarray) -> KittiRows:
    n = len(a)
    x, y = a[:, 2] + dx, a[:, 3] + dy
    u, height = 600 - 720 * y / x, 720 * 1.5 / x
    return KittiRows.of(
        n, frame=a[:, 0].astype(int), track_id=a[:, 1].astype(int), kind=np.full(n, "Car"),
        truncated=np.zeros(n, int), occluded=np.zeros(n, int), size=np.tile((1.5, 1.8, 4.2), (n, 1)),
        bottom=np.column_stack([-y, np.full(n, 1.7), x]), rotation_y=-0.5 * np.pi - a[:, 4],
        rectangle=np.column_stack([u - height, 180 - 0.5 * height, u + height, 180 + 0.5 * height]), score=score,
    )  # fmt: skip


def detection_file(file: Path, rows: KittiRows) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for i in range(len(rows)):
        values = (*rows.rectangle[i], rows.score[i], *rows.size[i], *rows.bottom[i], rows.rotation_y[i], rows.alpha[i])
        lines.append(f"{rows.frame[i]},2," + ",".join(f"{v:.4f}" for v in values) + "\n")
    file.write_text("".join(lines))


def folder_of(folder: Path, truth: KittiRows, found: KittiRows) -> Path:
    write_tracks(folder / "labels" / "0007.txt", truth)
    detection_file(folder / "detections" / "0007_car.txt", found)
    return folder


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000))
def test_boxes_and_rows_are_each_others_inverse(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = KittiRows.of(
        5, kind=np.full(5, "Cyclist"), size=rng.uniform(0.5, 4, (5, 3)), bottom=rng.normal(0, 20, (5, 3)),
        rotation_y=rng.uniform(-np.pi, np.pi, 5),
    )  # fmt: skip
    back = rows_of(boxes_of(rows))
    np.testing.assert_allclose(back["size"], rows.size)
    np.testing.assert_allclose(back["bottom"], rows.bottom, atol=1e-9)
    np.testing.assert_allclose(np.exp(1j * back["rotation_y"]), np.exp(1j * rows.rotation_y))


def test_a_car_ahead_that_drives_away_points_forward() -> None:
    """KITTI's rotation_y of -pi/2 points along the camera's view; its x is our -y."""
    rows = KittiRows.of(
        1, kind=np.array(["Car"]), size=[[1.5, 1.8, 4.0]], bottom=[[2.0, 1.7, 20.0]], rotation_y=[-np.pi / 2]
    )
    boxes = boxes_of(rows)
    np.testing.assert_allclose(boxes.center[0], (20.0, -2.0, -0.95))
    np.testing.assert_allclose(boxes.yaw[0], 0.0, atol=1e-12)
    np.testing.assert_allclose(boxes.size[0], (4.0, 1.8, 1.5))


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    truth, _ = drive()
    write_tracks(tmp_path / "new" / "0001.txt", truth)
    back = read_tracks(tmp_path / "new" / "0001.txt")
    order = np.lexsort((truth.track_id, truth.frame))
    for name in truth.__dataclass_fields__:
        column = getattr(truth, name)[order]
        if column.dtype.kind == "f":
            np.testing.assert_allclose(getattr(back, name), column, atol=1e-6)
        else:
            np.testing.assert_array_equal(getattr(back, name), column)


@pytest.mark.parametrize(
    ("reader", "line", "says"),
    [
        (read_tracks, "0 1 Car 0 0 0.1 1 2 3", "17 or 18 words, got 9"),
        (read_tracks, "0 1 Car 0 0 x 1 2 3 4 1 1 1 1 1 1 1", "line 2: expected numbers"),
        (read_tracks, "0 1 Car 0 0 nan 1 2 3 4 1 1 1 1 1 1 1", "finite numbers"),
        (read_detections, "0,2,1,2,3", "15 numbers between commas, got 5"),
        (read_detections, "0,7,1,2,3,4,5,1,1,1,1,1,1,1,1", "a type of"),
        (read_detections, "0,2,1,2,3,4,5,1,0,1,1,1,1,1,1", "above 0"),
    ],
)
def test_lines_that_cannot_be_are_named(tmp_path: Path, reader: object, line: str, says: str) -> None:
    file = tmp_path / "0000.txt"
    file.write_text(f"\n{line}\n")
    with pytest.raises(InvalidInput, match=says):
        reader(file)  # type: ignore[operator]
    with pytest.raises(InvalidInput, match="is it there"):
        reader(tmp_path / "none.txt")  # type: ignore[operator]


@pytest.mark.parametrize(("speed", "yaw_rate"), [(0.0, 0.0), (14.0, 0.0), (8.0, 0.3), (8.0, -0.3)])
def test_objects_keep_their_ids_from_a_vehicle_whose_motion_nobody_tells(
    tmp_path: Path, speed: float, yaw_rate: float
) -> None:
    truth, found = drive(speed, yaw_rate)
    content = evaluate_tracking(folder_of(tmp_path, truth, found))
    row = content["classes"]["Car"]
    assert row["switches"] == 0
    assert row["mota"] > 0.92  # the detections alone, of which 5 % are missing, give no more than 0.95
    assert row["assa"] > 0.85


def test_the_order_of_the_lines_does_not_matter() -> None:
    _, found = drive(8.0, 0.2)
    shuffled = found[np.random.default_rng(0).permutation(len(found))]
    a, b = track_kitti(found), track_kitti(shuffled)
    for name in ("frame", "track_id", "bottom", "score", "rectangle"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_one_thing_that_two_detectors_claim_is_what_the_surer_one_says() -> None:
    """A cyclist whom the pedestrian detector takes for one of its own, now and then with the higher score."""
    rng, n = np.random.default_rng(0), 30
    table = np.column_stack([np.arange(n), np.zeros(n), 15 + 0.3 * np.arange(n), np.full(n, 2.0), np.zeros(n)])
    cyclist = _rows(table, rng.normal(7, 1, n), *rng.normal(0, 0.05, (2, n)))
    walker = _rows(table, rng.normal(4, 1, n), *rng.normal(0, 0.2, (2, n)))
    kinds = (("Cyclist", (1.7, 0.6, 1.8), cyclist), ("Pedestrian", (1.7, 0.7, 0.8), walker))
    parts = [
        KittiRows(**{**_columns(rows), "kind": np.full(n, kind, "<U16"), "size": np.tile(size, (n, 1))})
        for kind, size, rows in kinds
    ]
    tracks = track_kitti(KittiRows.concatenate(parts))
    assert set(tracks.kind.tolist()) == {"Cyclist"}
    assert len(set(tracks.track_id.tolist())) == 1
    assert set(track_kitti(parts[1]).kind.tolist()) == {"Pedestrian"}  # with nobody to contradict


def test_no_detections_no_tracks() -> None:
    assert len(track_kitti(KittiRows.of(0))) == 0


def test_track_and_evaluate_by_the_command_line(tmp_path: Path) -> None:
    folder, run = folder_of(tmp_path / "kitti", *drive()), CliRunner().invoke
    one = run(cli.app, ["track", str(folder / "detections" / "0007_car.txt"), "--format", "kitti", "--out",
                        str(tmp_path / "one" / "0007.txt")])  # fmt: skip
    assert one.exit_code == 0, one.output
    every = run(cli.app, ["track", str(folder / "detections"), "--out", str(tmp_path / "all")])
    assert every.exit_code == 0, every.output
    assert (tmp_path / "one" / "0007.txt").read_bytes() == (tmp_path / "all" / "0007.txt").read_bytes()
    measured = []
    for more in ([], ["--results", str(tmp_path / "one")]):
        file = tmp_path / "figures.json"
        result = run(cli.app, ["evaluate", "tracking", str(folder), "--json", str(file), *more])
        assert result.exit_code == 0, result.output
        assert "sAMOTA" in result.output
        measured.append(json.loads(file.read_text())["classes"])
    assert measured[0]["Car"] == pytest.approx(measured[1]["Car"], rel=1e-4)
    assert measured[0]["Cyclist"]["truths"] == 0


def test_folders_that_hold_nothing_and_formats_that_are_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="labels/SSSS"):
        read_sequences(tmp_path)
    run = CliRunner().invoke
    with pytest.raises(InvalidInput, match="SSSS_<class>"):
        run(cli.app, ["track", str(tmp_path), "--out", str(tmp_path / "x")], catch_exceptions=False)
    with pytest.raises(ConfigurationError, match="expected kitti, got mot"):
        run(cli.app, ["track", str(tmp_path), "--format", "mot", "--out", "x"], catch_exceptions=False)


@pytest.mark.data
@pytest.mark.slow
def test_recorded_sequences_are_tracked_as_well_as_before(recorded_data: Path) -> None:
    folder = recorded_data / "kitti_tracking"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    content = evaluate_tracking(folder)["classes"]
    assert content["Car"]["samota"] > 0.91
    assert content["Car"]["mota"] > 0.82
    assert content["Car"]["switches"] <= 10
    assert content["Pedestrian"]["samota"] > 0.70
    assert content["Cyclist"]["samota"] > 0.56

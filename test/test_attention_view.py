"""Heat maps lie where the tokens are, and a picture shows what an explanation says; `karp detect --explain`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_model import SMALL, camera, small_weights, sweep
from typer.testing import CliRunner

from karp_perception.cli import app
from karp_perception.core import Boxes, SensorFrame, Vehicle
from karp_perception.detection.explanation import Explanation
from karp_perception.view.attention_view import canvas_heat, draw_explanation, heat_colors, image_heat
from karp_perception.view.birdseye import BirdsEye
from karp_perception.view.palette import TARGET

ROWS, COLUMNS = SMALL.image_tokens
NX, NY = SMALL.canvas_tokens
LUMINANCE = (0.299, 0.587, 0.114)


def explanation(cameras: tuple[str, ...] = ("a",), lidar: bool = True) -> Explanation:
    """One car 8 m ahead, and another; of the first's attention half lies on one token of each sensor kind."""
    boxes = Boxes(
        [[8, 0, 0.8], [12, 4, 0.8]], [[4.2, 1.8, 1.5]] * 2, [0.2, 0.0], np.zeros((2, 2)), [0, 0], [0.9, 0.4]
    )  # fmt: skip
    images, canvas = np.zeros((2, len(cameras), ROWS, COLUMNS)), np.zeros((2, NX, NY))
    if cameras:
        images[:, 0, 1, 4] = 0.5
    if lidar:
        canvas[:, 12, 3] = 0.5
    return Explanation(SMALL, boxes, np.array([2, 9]), boxes.label, np.zeros((2, 3)), cameras, images, canvas, lidar)


def frame(cameras: tuple[str, ...] = ("a",), lidar: bool = True, shape: tuple[int, int] = (90, 200)) -> SensorFrame:
    rng = np.random.default_rng(0)
    return SensorFrame(0, {name: camera(rng, 0.0, shape) for name in cameras}, sweep(rng) if lidar else None)


def test_heat_from_above_lies_on_the_token() -> None:
    above = BirdsEye(Vehicle(), (400, 500), 25.0, 10.0)
    heat = canvas_heat(explanation(), 0, above)
    assert heat.shape == (500, 400)
    assert heat.max() == np.float32(0.5)
    rows, columns = np.nonzero(heat)
    x, y = SMALL.x_range_m[0] + 12.5 * SMALL.token_m, SMALL.y_range_m[0] + 3.5 * SMALL.token_m
    np.testing.assert_allclose((columns.mean(), rows.mean()), above.pixels(np.array([x, y])), atol=0.6)
    side = SMALL.token_m * above.scale
    assert (heat > 0).sum() == pytest.approx(side**2, rel=0.1)


@pytest.mark.parametrize("shape", [(90, 200), (400, 960), (50, 200)])
def test_heat_in_an_image_covers_the_square_that_the_token_saw(shape: tuple[int, int]) -> None:
    """Nothing but the hot square's pixels reach the network's token: checked by the cut of an image that shows them."""
    from karp_perception.detection.preprocessing import place_cameras

    source = frame(shape=shape).cameras["a"]
    assert source is not None
    heat = image_heat(explanation(), 0, "a", source)
    assert heat.shape == shape
    picture = np.repeat((255 * (heat > 0)).astype(np.uint8)[..., None], 3, axis=2)
    black, shown = (
        place_cameras({"a": dataclasses.replace(source, image=image)}, SMALL)[1][0, 0, 0]
        for image in (np.zeros_like(picture), picture)
    )
    seen = (shown - black) / (shown - black).max()
    inner = seen[16 + 2 : 32 - 2, 64 + 2 : 80 - 2]
    filled = min(32, round(96 / shape[1] * shape[0])) - 18
    assert (inner[: min(12, filled - 2)] > 0.95).all()
    seen[14:34, 62:82] = 0
    assert (seen < 0.05).all()


def test_colours_of_heat_grow_brighter() -> None:
    bright = heat_colors(np.linspace(0, 1, 100)) @ LUMINANCE
    assert (np.diff(bright) > 0).all()


@pytest.mark.parametrize("cameras", [(), ("a",), ("a", "b"), ("a", "b", "c")])
@pytest.mark.parametrize("lidar", [True, False])
def test_a_picture_shows_box_and_heat(cameras: tuple[str, ...], lidar: bool) -> None:
    if not cameras and not lidar:
        return
    told, seen = explanation(cameras, lidar), frame(cameras, lidar)
    picture, other = (draw_explanation(seen, told, number, Vehicle()) for number in (0, 1))
    assert picture.shape == (720, 1280, 3)
    assert picture.dtype == np.uint8
    red = (picture == TARGET).all(axis=-1)
    assert red[72:, 690:].sum() > 50
    assert (red != (other == TARGET).all(axis=-1)).any()
    nothing = {name: np.zeros_like(getattr(told, name)) for name in ("image_attention", "lidar_attention")}
    cold = draw_explanation(seen, dataclasses.replace(told, **nothing), 0, Vehicle())
    heated = (picture.astype(float) - cold).any(axis=-1)[72:656]
    assert (heated[:, 690:].sum() > 100) == lidar
    assert (heated[:, :680].sum() > 100) == bool(cameras)
    # One square of the canvas: 25.6 m are 584 px.
    assert heated[:, 690:].sum() <= 1.1 * (SMALL.token_m * 584 / 25.6) ** 2


def test_notes_and_names_are_written() -> None:
    plain, noted = (draw_explanation(frame(), explanation(), 0, Vehicle(), note) for note in ("", "untrained"))
    changed = np.nonzero((plain != noted).any(axis=-1))[0]
    assert 0 < changed.max() < 64


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("frame")
    seen = frame(("front",))
    source, lidar = seen.cameras["front"], seen.lidar
    assert source is not None
    assert lidar is not None
    cv2.imwrite(str(folder / "front.png"), source.image)
    lidar.points.astype("<f4").tofile(folder / "points.bin")
    calibration = {"K": source.intrinsics.tolist(), "T_base_camera": source.T_base_camera.tolist()}
    content = {"cameras": [{"name": "front", "file": "front.png", **calibration}], "boxes": []}
    (folder / "frame.json").write_text(json.dumps(content))
    return folder


def test_detect_explains(labelled: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    weights = small_weights(tmp_path)
    base = ["detect", str(labelled), "--out", str(tmp_path / "o.json"), "--model", str(weights), "--backend", "torch"]
    run = CliRunner().invoke(app, [*base, "--explain", str(tmp_path / "why"), "--top", "3"])
    assert run.exit_code == 0, run.output
    content = json.loads((tmp_path / "o.json").read_text())
    pictures = sorted((tmp_path / "why").iterdir())
    assert len(pictures) == len(content["explained"]) == 3
    for row, found, picture in zip(content["explained"], content["detections"], pictures, strict=False):
        assert row["picture"] == str(picture)
        assert cv2.imread(str(picture)).shape == (720, 1280, 3)
        assert row["label"] == found["label"]
        assert row["score"] == pytest.approx(found["score"], abs=1e-3)
        assert set(row["attention"]) == {"front", "lidar"}
        assert sum(row["attention"].values()) == pytest.approx(1.0, abs=1e-3)
        assert picture.name in run.output.replace("\n", "")


def test_a_model_without_a_network_has_nothing_to_explain(labelled: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    base = ["detect", str(labelled), "--out", str(tmp_path / "o.json"), "--model", "none"]
    run = CliRunner().invoke(app, [*base, "--explain", str(tmp_path / "why")])
    assert run.exit_code != 0
    assert "nothing to explain" in str(run.exception)
    assert not (tmp_path / "o.json").exists()

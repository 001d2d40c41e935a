"""What image tokens are told: against OpenCV's projection, and a network that learns it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from small_model import SMALL

from karp_perception.detection.model.image_hints import ImageHints, shown_objects
from karp_perception.detection.model.matcher import Targets

FORWARD = np.array([[0, 0, 1, 0.5], [-1, 0, 0, 0.2], [0, -1, 0, 1.5], [0, 0, 0, 1]], float)
"""A camera that looks ahead, in base_link."""
K = np.array([[60.0, 0.0, 47.5], [0.0, 60.0, 23.5], [0.0, 0.0, 1.0]])
ROWS, COLUMNS = SMALL.image_tokens
STRIDE = SMALL.image_width // COLUMNS


def targets(*objects: tuple[int, tuple[float, float, float], tuple[float, float, float], float]) -> Targets:
    """Label, centre, size and yaw of each."""
    n = len(objects)
    label, center, size, yaw = (torch.tensor([[o[k] for o in objects]]) for k in range(4))
    velocity, ones = torch.zeros(1, n, 2), torch.ones(1, n)
    return Targets(label, center, size.log(), yaw, velocity, ones, ones, torch.ones(1, n, dtype=torch.bool))


def calibration(cameras: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    def each(matrix: np.ndarray) -> torch.Tensor:
        return torch.tensor(matrix, dtype=torch.float32).expand(1, cameras, -1, -1)

    return each(K), each(FORWARD), torch.ones(1, cameras)


def pixels_of(points: np.ndarray) -> np.ndarray:
    """(N, 3) m in base_link -> (N, 2) by OpenCV."""
    T = np.linalg.inv(FORWARD)
    rotation, _ = cv2.Rodrigues(T[:3, :3])
    return cv2.projectPoints(points, rotation, T[:3, 3], K, None)[0][:, 0]


def test_tokens_in_the_inner_part_of_a_box_show_its_object() -> None:
    center, size, yaw = (5.5, -0.6, 0.8), (4.0, 1.8, 1.6), 0.4
    shown, depth = shown_objects(targets((0, center, size, yaw)), *calibration()[:2], SMALL)
    corners = np.array([[x, y, z] for x in (-2, 2) for y in (-0.9, 0.9) for z in (-0.8, 0.8)])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    pixels = pixels_of(np.vstack([corners @ turn.T + center, [center]]))
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    middle, reach = (low + high) / 2, np.maximum(0.3 * (high - low), STRIDE / 2)
    for row in range(ROWS):
        for column in range(COLUMNS):
            pixel = np.array([column, row]) * STRIDE + (STRIDE - 1) / 2
            expected = bool((np.abs(pixel - middle) <= reach).all())
            token = row * COLUMNS + column
            assert bool(shown[0, 0, token] == 0) == expected, (row, column)
            assert float(depth[0, 0, token]) == (np.float32(5.0) if expected else 1.0)
    assert (shown == 0).sum() > 1


def test_the_nearer_object_hides_the_farther_and_what_is_behind_is_not_shown() -> None:
    far, near, behind = ((0, (x, 0.2, 1.2), (1.0, 2.0, 2.0), 0.0) for x in (14.0, 6.0, -6.0))
    shown, depth = shown_objects(targets(far, near, behind), *calibration()[:2], SMALL)
    assert set(shown.unique().tolist()) == {-1, 1}
    assert set(depth.unique().tolist()) == {1.0, 5.5}
    only, _ = shown_objects(targets(behind), *calibration()[:2], SMALL)
    assert (only == -1).all()


def test_something_tiny_is_shown_by_the_token_of_its_middle() -> None:
    shown, _ = shown_objects(targets((8, (18.0, 0.3, 0.9), (0.3, 0.3, 0.6), 0.0)), *calibration()[:2], SMALL)
    (token,) = torch.nonzero(shown[0, 0] == 0).flatten().tolist()
    pixel = pixels_of(np.array([[18.0, 0.3, 0.9]]))[0]
    assert [token % COLUMNS, token // COLUMNS] == np.round((pixel - (STRIDE - 1) / 2) / STRIDE).tolist()


def test_class_and_depth_are_learnt_from_tokens_that_tell_them() -> None:
    hints, batch = ImageHints(SMALL), targets((5, (7.0, 1.0, 0.9), (0.8, 0.8, 1.8), 0.0), (0, (12.0, -3.0, 0.8),
                                              (4.0, 1.8, 1.5), 0.0))  # fmt: skip
    shown, depth = shown_objects(batch, *calibration()[:2], SMALL)
    tokens = torch.nn.functional.one_hot(shown[0, 0] + 1, SMALL.width).float()[None]
    optimizer = torch.optim.Adam(hints.parameters(), lr=0.1)
    first = None
    for _ in range(300):
        losses = torch.stack(hints(tokens, batch, calibration()))
        first = losses.detach() if first is None else first
        optimizer.zero_grad()
        losses.sum().backward()
        optimizer.step()
    assert (losses < 0.05 * first).all(), (first, losses)
    said = hints.head(tokens)[0]
    for token in torch.nonzero(shown[0, 0] >= 0).flatten().tolist():
        assert int(said[token, :10].argmax()) == [5, 0][int(shown[0, 0, token])]
        assert abs(float(said[token, 10].exp()) - float(depth[0, 0, token])) < 0.5


def test_absent_cameras_objects_without_weight_and_empty_frames_teach_nothing() -> None:
    hints = ImageHints(SMALL)
    tokens = torch.randn(1, ROWS * COLUMNS, SMALL.width)
    empty = targets((0, (8.0, 0.0, 0.8), (4.0, 1.8, 1.6), 0.0))
    empty.valid[:] = False
    background, depth = hints(tokens, empty, calibration())
    assert float(background) > 0
    assert float(depth) == 0
    intrinsics, T, _ = calibration()
    seen = targets((0, (8.0, 0.0, 0.8), (4.0, 1.8, 1.6), 0.0))
    assert [float(v) for v in hints(tokens, seen, (intrinsics, T, torch.zeros(1, 1)))] == [0.0, 0.0]
    unsure = targets((0, (8.0, 0.0, 0.8), (4.0, 1.8, 1.6), 0.0))
    unsure.weight[:] = 0
    classes, depth = hints(tokens, unsure, calibration())
    assert float(depth) == 0
    assert float(classes) < float(hints(tokens, seen, calibration())[0])
    none = Targets(*(getattr(seen, name)[:, :0] for name in vars(seen)))
    assert float(hints(tokens, none, calibration())[1]) == 0

"""What image tokens are told: against OpenCV's projection, and tokens that learn it."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from small_model import SMALL

from karp_perception.detection.model import image_hints
from karp_perception.detection.model.detector_net import Tokens
from karp_perception.detection.model.image_hints import Shown, shown_objects
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
    return Targets(
        label, center, size.log(), yaw, velocity, ones, ones.clone(), ones.clone(), torch.ones(1, n, dtype=torch.bool)
    )


def calibration(cameras: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    def each(matrix: np.ndarray) -> torch.Tensor:
        return torch.tensor(matrix, dtype=torch.float32).expand(1, cameras, -1, -1)

    return each(K), each(FORWARD), torch.ones(1, cameras)


def pixels_of(points: np.ndarray) -> np.ndarray:
    """(N, 3) m in base_link -> (N, 2) by OpenCV."""
    T = np.linalg.inv(FORWARD)
    rotation, _ = cv2.Rodrigues(T[:3, :3])
    return cv2.projectPoints(points, rotation, T[:3, 3], K, None)[0][:, 0]


def tokens_that_say(heatmap: torch.Tensor, log_depth: torch.Tensor) -> Tokens:
    """Tokens of which the losses read these two alone."""
    none = torch.zeros(1, 0)
    return Tokens(none, none, none, none, none, none, none, heatmap, log_depth, none)


def shown_by(batch: Targets) -> Shown:
    return shown_objects(batch, *calibration()[:2], SMALL)


def losses(tokens: Tokens, batch: Targets, present: float = 1.0) -> tuple[float, float]:
    intrinsics, T, cameras = calibration()
    shown = shown_by(batch)
    heat = image_hints.heatmap_loss(tokens, batch, shown, present * cameras, SMALL)
    depth = image_hints.depth_loss(tokens, batch, shown, (intrinsics, T, present * cameras), SMALL)
    return float(heat), float(depth)


def test_tokens_in_the_inner_part_of_a_box_show_its_object() -> None:
    center, size, yaw = (5.5, -0.6, 0.8), (4.0, 1.8, 1.6), 0.4
    shown = shown_by(targets((0, center, size, yaw)))
    corners = np.array([[x, y, z] for x in (-2, 2) for y in (-0.9, 0.9) for z in (-0.8, 0.8)])
    turn = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    pixels = pixels_of(np.vstack([corners @ turn.T + center, [center]]))
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    middle, reach = (low + high) / 2, np.maximum(0.3 * (high - low), STRIDE / 2)
    for row in range(ROWS):
        for column in range(COLUMNS):
            pixel = np.array([column, row]) * STRIDE + (STRIDE - 1) / 2
            expected = bool((np.abs(pixel - middle) <= reach).all())
            assert bool(shown.owner[0, 0, row * COLUMNS + column] == 0) == expected, (row, column)
    assert (shown.owner == 0).sum() > 1
    assert float(shown.depth) == 5.0
    np.testing.assert_allclose(shown.middle[0, 0, 0], (middle - (STRIDE - 1) / 2) / STRIDE, atol=1e-4)
    np.testing.assert_allclose(shown.half[0, 0, 0], (high - low) / 2 / STRIDE, atol=1e-4)


def test_the_nearer_object_hides_the_farther_and_what_is_behind_is_not_shown() -> None:
    far, near, behind = ((0, (x, 0.2, 1.2), (1.0, 2.0, 2.0), 0.0) for x in (14.0, 6.0, -6.0))
    batch = targets(far, near, behind)
    shown = shown_by(batch)
    assert set(shown.owner.unique().tolist()) == {-1, 1}
    assert shown.centers(SMALL)[1][0, 0].tolist() == [False, True, False]
    assert (shown_by(targets(behind)).owner == -1).all()
    wanted, weight = image_hints.heatmap_targets(batch, shown, SMALL)
    token = int(shown.centers(SMALL)[0][0, 0, 1])
    assert torch.nonzero(wanted == 1).tolist() == [[0, 0, token, 0]]
    assert float(weight[0, 0, token, 0]) == 1.0  # also where the hidden one's peak would be


def test_around_an_object_that_is_hidden_or_shown_in_part_nothing_is_asked() -> None:
    hidden = (0, (14.0, 3.0, 1.2), (1.0, 2.0, 2.0), 0.0)
    before = (5, (7.0, 1.6, 0.9), (0.8, 1.6, 2.0), 0.0)
    batch = targets(hidden, before)
    shown = shown_by(batch)
    assert shown.centers(SMALL)[1][0, 0].tolist() == [False, True]
    wanted, weight = image_hints.heatmap_targets(batch, shown, SMALL)
    assert (wanted[..., 0] == 0).all()
    assert 0 < int((weight[..., 0] == 0).sum()) < ROWS * COLUMNS / 2
    assert (weight[..., 5] == 1).all()
    unsure = targets(before)
    unsure.shown[:] = 0
    wanted, weight = image_hints.heatmap_targets(unsure, shown_by(unsure), SMALL)
    assert (wanted == 0).all()
    assert (weight[..., 5] == 0).any()


def test_something_tiny_is_shown_by_the_token_of_its_middle() -> None:
    shown = shown_by(targets((8, (18.0, 0.3, 0.9), (0.3, 0.3, 0.6), 0.0)))
    (token,) = torch.nonzero(shown.owner[0, 0] == 0).flatten().tolist()
    pixel = pixels_of(np.array([[18.0, 0.3, 0.9]]))[0]
    assert [token % COLUMNS, token // COLUMNS] == np.round((pixel - (STRIDE - 1) / 2) / STRIDE).tolist()
    assert shown.centers(SMALL)[0][0, 0].tolist() == [token]


def test_class_and_depth_are_learnt_from_tokens_that_tell_them() -> None:
    batch = targets((5, (7.0, 1.0, 0.9), (0.8, 0.8, 1.8), 0.0), (0, (12.0, -3.0, 0.8), (4.0, 1.8, 1.5), 0.0))
    shown = shown_by(batch)
    heatmap = torch.full((1, ROWS * COLUMNS, 10), -4.0, requires_grad=True)
    log_depth = torch.full((1, ROWS * COLUMNS), 3.0, requires_grad=True)
    optimizer = torch.optim.Adam([heatmap, log_depth], lr=0.1)
    for _ in range(300):
        tokens = tokens_that_say(heatmap, log_depth)
        loss = image_hints.heatmap_loss(tokens, batch, shown, torch.ones(1, 1), SMALL)
        loss = loss + image_hints.depth_loss(tokens, batch, shown, calibration(), SMALL)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    best = heatmap[0].max(dim=0)
    token = shown.centers(SMALL)[0][0, 0].tolist()
    assert [int(best.indices[5]), int(best.indices[0])] == token
    assert best.values.argsort(descending=True)[:2].sort().values.tolist() == [0, 5]
    for place in torch.nonzero(shown.owner[0, 0] >= 0).flatten().tolist():
        # As at the usual focal length: this camera's is larger, things look nearer than they are.
        depth = float(shown.depth[0, 0, shown.owner[0, 0, place]]) * SMALL.usual_focal_px / K[0, 0]
        assert abs(float(log_depth[0, place].detach().exp()) - depth) < 0.5


def test_absent_cameras_objects_without_weight_and_empty_frames_teach_nothing() -> None:
    tokens = tokens_that_say(torch.randn(1, ROWS * COLUMNS, 10), torch.zeros(1, ROWS * COLUMNS))
    car = (0, (8.0, 0.0, 0.8), (4.0, 1.8, 1.6), 0.0)
    seen, empty, unsure = targets(car), targets(car), targets(car)
    assert losses(tokens, seen, present=0.0) == (0.0, 0.0)
    empty.valid[:] = False
    empty.shown[:] = 0
    background, depth = losses(tokens, empty)
    assert background > 0
    assert depth == 0
    unsure.shown[:] = 0
    assert losses(tokens, unsure)[1] == 0
    none = Targets(*(getattr(seen, name)[:, :0] for name in vars(seen)))
    assert losses(tokens, none) == (background, 0.0)


def test_objects_are_taught_by_the_token_of_their_middle_in_the_camera_that_shows_them_largest() -> None:
    batch = targets(
        (0, (9.0, 0.0, 0.8), (4.0, 1.8, 1.6), 0.0),
        (5, (-9.0, 0.0, 0.8), (0.8, 0.8, 1.8), 0.0),
        (5, (13.0, 4.0, 0.9), (0.8, 0.8, 1.8), 0.0),
    )
    intrinsics, T, present = calibration(cameras=2)
    intrinsics = intrinsics.clone()
    intrinsics[0, 1, :2, :2] *= 1.5
    shown = shown_objects(batch, intrinsics, T, SMALL)
    still = torch.zeros(1, 3, 2)
    index, match = image_hints.center_tokens(batch, shown, present, SMALL, still)
    assert match.target.tolist() == [0, 2]
    assert match.query.tolist() == [0, 2]
    expected = shown.centers(SMALL)[0][0, 1] + ROWS * COLUMNS
    assert index[0, [0, 2]].tolist() == expected[[0, 2]].tolist()
    only = torch.tensor([[1.0, 0.0]])
    index, match = image_hints.center_tokens(batch, shown, only, SMALL, still)
    assert index[0, [0, 2]].tolist() == shown.centers(SMALL)[0][0, 0, [0, 2]].tolist()
    assert len(image_hints.center_tokens(batch, shown, 0 * only, SMALL, still)[1].target) == 0

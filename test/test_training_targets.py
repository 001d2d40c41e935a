"""What counts as findable with which sensors, and denoising queries that tell nothing to the queries proper."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import SMALL
from training_samples import made_up_frame

from karp_perception.core import Boxes, LidarSweep
from karp_perception.detection.model.block import MASKED
from karp_perception.detection.model.denoising import Denoising
from karp_perception.detection.model.detector_net import build
from karp_perception.detection.training.augmentation import sensor_dropout
from karp_perception.detection.training.batches import make_batch
from karp_perception.detection.training.objective import Objective, ObjectiveSettings
from karp_perception.detection.training.targets import pad_targets, target_arrays, target_weights
from karp_perception.sensing.labelled_frame import LabelledFrame


def frame(x: list[float], y: list[float], points: list[int], visibility: list[float]) -> LabelledFrame:
    n = len(x)
    boxes = Boxes(np.column_stack([x, y, np.ones(n)]), np.full((n, 3), 1.5), np.zeros(n), np.full((n, 2), np.nan),
                  np.zeros(n, int), np.ones(n))  # fmt: skip
    sensors = made_up_frame(0).sensors
    return LabelledFrame(
        sensors, boxes, np.array(points), np.zeros((0, 3)), sector=False, visibility=np.array(visibility)
    )


def without(of: LabelledFrame, *, lidar: bool = False, camera: bool = False) -> LabelledFrame:
    cameras = {name: None if camera else c for name, c in of.sensors.cameras.items()}
    return replace(of, sensors=replace(of.sensors, lidar=None if lidar else of.sensors.lidar, cameras=cameras))


def test_each_sensor_proves_what_it_shows() -> None:
    # Ahead in view; behind; ahead but hidden from the camera; ahead with one point; nobody sees it; off the canvas.
    f = frame([10, -4, 12, 8, 9, 60], [0, 0, 1, -1, 2, 0], [50, 50, 50, 1, 0, 50], [0.9, 0.9, 0.0, 0.2, 0.0, 0.0])
    nan = np.nan
    np.testing.assert_equal(target_weights(f, SMALL)[0], [1, 1, 1, 0, nan, 0])
    np.testing.assert_equal(target_weights(without(f, camera=True), SMALL)[0], [1, 1, 1, 0, nan, 0])
    np.testing.assert_equal(target_weights(without(f, lidar=True), SMALL)[0], [1, nan, nan, 0, nan, nan])


def test_where_nobody_tells_what_cameras_see_points_do_and_else_the_labels() -> None:
    f = replace(frame([10, 10, 10, 10, -4], [0, 1, 2, 3, 0], [50, 4, 1, 0, 50], [1] * 5), visibility=None)
    nan = np.nan
    np.testing.assert_equal(target_weights(f, SMALL)[0], [1, 1, 0, nan, 1])
    dropped = sensor_dropout.without(f, set(), lidar=True)
    np.testing.assert_equal(target_weights(dropped, SMALL)[0], [1, 1, 0, nan, nan])
    # A recording without lidar: the labels are of what its images show.
    for lidar in (None, LidarSweep(np.zeros((0, 4)), 0)):
        blind = replace(f, sensors=replace(f.sensors, lidar=lidar), points_inside=np.zeros(5, int))
        np.testing.assert_equal(target_weights(blind, SMALL)[0], [1, 1, 1, 1, nan])


def test_labels_weigh_as_much_as_they_are_believed_and_unknown_classes_nothing() -> None:
    f = replace(frame([10, 8], [0, 0], [50, 50], [1, 1]), weight=np.array([0.4, 1.0]))
    np.testing.assert_allclose(target_weights(f, SMALL)[0], [0.4, 1.0])
    f = replace(f, labels=replace(f.labels, label=np.array([-1, 0])))
    np.testing.assert_allclose(target_weights(f, SMALL)[0], [0.0, 1.0])


def test_unknown_velocities_are_told_apart() -> None:
    columns = target_arrays(frame([10], [0], [50], [1]), SMALL)
    assert columns["velocity_known"].tolist() == [0.0]
    assert np.isfinite(columns["velocity"]).all()
    both = pad_targets([columns, target_arrays(made_up_frame(3), SMALL)])
    assert both.valid.sum() == 1 + len(made_up_frame(3).labels)
    assert both.velocity_known[1][both.valid[1]].all()


def test_denoising_queries_are_hidden_from_those_proper() -> None:
    net = build(SMALL, 0)
    batch = make_batch([made_up_frame(k) for k in range(3)], SMALL)
    noisy = Denoising(SMALL, 24)(batch.targets, net.position, batch.calibration, torch.Generator().manual_seed(0))
    assert noisy is not None
    count = SMALL.queries
    mask = noisy.mask(count)
    assert (mask[:count, count:] == MASKED).all()
    assert (mask[:count, :count] == 0).all()
    size = noisy.target.shape[1] // noisy.groups
    for g in range(noisy.groups):
        rows = slice(count + g * size, count + (g + 1) * size)
        assert (mask[rows, rows] == 0).all()
        assert (mask[rows, count:][:, torch.arange(len(mask) - count) // size != g] == MASKED).all()
    known = noisy.match(batch.targets)
    near = torch.linalg.norm(noisy.reference[known.frame, known.query, :2]
                             - batch.targets.center[known.frame, known.target, :2], dim=1)  # fmt: skip
    half = 0.5 * batch.targets.log_size[known.frame, known.target, :2].exp().norm(dim=1)
    assert (near <= half.clamp(min=0.43)).all()
    assert batch.targets.valid[known.frame, known.target].all()


def test_answers_of_the_queries_proper_do_not_change_with_denoising() -> None:
    batch = make_batch([made_up_frame(k) for k in range(2)], SMALL)
    parts = []
    for queries in (0, 24):
        objective = Objective(build(SMALL, 0))
        objective.denoising.most = queries
        objective.train()
        if queries == 0:
            objective.denoising.forward = lambda *_: None  # type: ignore[method-assign]
        parts.append(objective(batch, 0)[1])
    for name in ("label", "center", "size", "direction", "heatmap"):
        assert float(parts[0][name]) == pytest.approx(float(parts[1][name]), rel=1e-4), name


def test_places_of_objects_are_judged_by_the_boxes_that_they_would_give() -> None:
    batch = make_batch([made_up_frame(k) for k in range(2)], SMALL)
    batch.lidar_present[1] = 0
    objective = Objective(build(SMALL, 0), ObjectiveSettings(token_jitter=0.0)).train()
    net, targets = objective.net, batch.targets
    tokens = net.encode(batch.images, batch.camera_present, batch.canvas, batch.lidar_present,
                        *net.position(*batch.calibration)[:2])  # fmt: skip
    found, pairs, unjudged = objective._places_of_objects(tokens, batch, torch.Generator())
    assert unjudged.all()
    assert set(pairs.frame.tolist()) == {0}, "without lidar there is nothing on a place"
    assert len(pairs.target) == int(targets.valid[0].sum()) > 1
    nx, ny = SMALL.canvas_places
    grid = net.lidar_features(tokens, torch.arange(nx * ny).expand(2, -1))[0].unflatten(0, (nx, ny))
    for g in pairs.target.tolist():
        x, y, _ = targets.center[0, g].tolist()
        i, j = int((x - SMALL.x_range_m[0]) // SMALL.place_m), int((y - SMALL.y_range_m[0]) // SMALL.place_m)
        middle = torch.tensor([SMALL.x_range_m[0] + (i + 0.5) * SMALL.place_m,
                               SMALL.y_range_m[0] + (j + 0.5) * SMALL.place_m, SMALL.candidate_z_m])  # fmt: skip
        expected = net.heads(grid[i, j], middle)
        torch.testing.assert_close(found.center[0, g], expected.center)
        torch.testing.assert_close(found.log_size[0, g], expected.log_size)
    torch.stack([found.center[0].sum(), found.direction[0].sum()]).sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in net.parameters())
    assert float(net.lidar_encoder.stem.halve[0][0].weight.grad.abs().sum()) > 0
    assert net.layers[0].to_tokens.attention.query.weight.grad is None, "queries have no part in it"
    assert "tokens" in objective(batch, 0)[1]


def test_image_tokens_of_objects_are_judged_by_the_boxes_that_they_would_give() -> None:
    batch = make_batch([made_up_frame(k) for k in range(2)], SMALL)
    batch.camera_present[1] = 0
    objective = Objective(build(SMALL, 0), ObjectiveSettings(token_jitter=0.0)).train()
    net, targets = objective.net, batch.targets
    image_position, image_ray = net.position.image_tokens(batch.intrinsics, batch.T_base_camera)
    lidar_position = net.position(*batch.calibration)[1]
    tokens = net.encode(
        batch.images, batch.camera_present, batch.canvas, batch.lidar_present, image_position, lidar_position
    )
    parts: dict[str, torch.Tensor] = {}
    found, pairs, unjudged = objective._image_tokens_of_objects(tokens, batch, image_ray, parts, torch.Generator())
    assert unjudged.all()
    assert set(pairs.frame.tolist()) == {0}, "without a camera there is nothing on a token"
    assert 0 < len(pairs.target) <= int(targets.valid[0].sum())
    for g in pairs.target.tolist():
        seen = torch.tensor([[*targets.center[0, g].tolist()]])
        offsets = tokens.image_points(image_ray[:1], torch.arange(image_ray.shape[1])[None])[0] - seen
        start, along = image_ray[0].split(3, dim=-1)
        ray = torch.nn.functional.normalize(along, dim=-1)
        beside = torch.linalg.cross(ray, seen - start).norm(dim=-1)
        token = int(torch.where((along * (seen - start)).sum(-1) > 0, beside, torch.inf).argmin())
        expected = net.heads(net.image_features(tokens, torch.full((2, 1), token))[0, 0], seen[0] + offsets[token])
        torch.testing.assert_close(found.center[0, g], expected.center)
        torch.testing.assert_close(found.log_size[0, g], expected.log_size)
    (found.center[0].sum() + parts["images"]).backward()
    assert float(net.image_encoder.stem.halve[0][0].weight.grad.abs().sum()) > 0
    assert net.layers[0].to_tokens.attention.query.weight.grad is None, "queries have no part in it"


def test_encoders_learn_alone_by_what_their_tokens_say() -> None:
    batch = make_batch([made_up_frame(k) for k in range(2)], SMALL)
    objective = Objective(build(SMALL, 0)).train()
    loss, parts = objective(batch, 0, decoder=False)
    assert set(parts) == {"tokens", "images", "heatmap"}
    loss.backward()
    learning = {name.split(".")[0] for name, p in objective.net.named_parameters() if p.grad is not None}
    assert learning >= {"image_encoder", "lidar_encoder", "heatmap", "image_heatmap", "heads", "candidate"}
    assert not learning & {"layers", "learned"}
    assert set(objective(batch, 0)[1]) > set(parts)


def test_training_and_inference_say_the_same_where_no_statistics_are_involved() -> None:
    """The gathering of what is present, against the network as it is exported."""
    net = build(SMALL, 0)
    batch = make_batch([made_up_frame(k) for k in range(2)], SMALL)
    batch.camera_present[1] = 0
    batch.lidar_present[0] = 0
    inputs = (batch.images, batch.camera_present, batch.canvas, batch.lidar_present, *net.position(*batch.calibration))
    net.eval()
    expected = net(*inputs)
    net.train()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    found = net(*inputs)
    hidden = expected.logits.amax(dim=-1) < MASKED / 2
    torch.testing.assert_close(found.logits[~hidden], expected.logits[~hidden], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.center[~hidden], expected.center[~hidden], rtol=1e-4, atol=1e-4)

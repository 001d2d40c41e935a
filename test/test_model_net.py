"""The network: masks, symmetries, geometry, gradients, size."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_model import SMALL, looking  # noqa: E402

from karp_perception.core import ConfigurationError  # noqa: E402
from karp_perception.core.geometry import invert_pose, project_points, transform_points  # noqa: E402
from karp_perception.detection.model.config import MODELS, NANO, TINY, ModelConfig  # noqa: E402
from karp_perception.detection.model.detector_net import DetectorNet, Prediction, build  # noqa: E402

YAWS = (0.0, 1.0, -1.2)


@pytest.fixture(scope="module")
def net() -> DetectorNet:
    return build(SMALL, 1)


def rig(yaws: tuple[float, ...] = YAWS, batch: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Intrinsics and poses of cameras at different places, as wide as the small network's images."""
    K = torch.tensor([[50.0, 0.3, 47.0], [0, 52.0, 20.0], [0, 0, 1]])
    poses = [looking(yaw, 1.5 + 0.1 * i, 0.3 * i, -0.2 * i) for i, yaw in enumerate(yaws)]
    T = torch.tensor(np.array(poses), dtype=torch.float32)
    return K.expand(batch, len(yaws), 3, 3), T.expand(batch, -1, 4, 4)


def inputs(net: DetectorNet, present: tuple[float, ...] = (1, 1, 1), lidar: float = 1.0, seed: int = 0,
           batch: int = 1) -> list[torch.Tensor]:  # fmt: skip
    config, generator = net.config, torch.Generator().manual_seed(seed)
    cameras = torch.tensor([present] * batch, dtype=torch.float32)
    K, T = rig(batch=batch)
    images = torch.randn(batch, 3, 3, config.image_height, config.image_width, generator=generator)
    canvas = torch.randn(batch, config.canvas_channels, *config.canvas_cells, generator=generator)
    return [images, cameras, canvas, torch.full((batch, 1), lidar), *net.position(K, T, cameras)]


def columns(prediction: Prediction) -> list[torch.Tensor]:
    return [getattr(prediction, field.name) for field in dataclasses.fields(prediction)]


def test_shapes(net: DetectorNet) -> None:
    with torch.no_grad():
        prediction = net(*inputs(net, batch=2))
    assert [tuple(c.shape) for c in columns(prediction)] == [
        (2, 21, 10), (2, 21, 3), (2, 21, 3), (2, 21, 2), (2, 21, 2), (2, 21, 9)
    ]  # fmt: skip
    assert all(torch.isfinite(c).all() for c in columns(prediction))


SUBSETS = [s for s in itertools.product((0, 1), repeat=4) if any(s)]


@pytest.mark.parametrize("subset", SUBSETS)
def test_what_is_missing_changes_nothing(net: DetectorNet, subset: tuple[int, ...]) -> None:
    present, lidar = subset[:3], subset[3]
    with torch.no_grad():
        arguments = inputs(net, present, lidar)
        reference = columns(net(*arguments))
        for camera in range(3):
            if not present[camera]:
                arguments[0][:, camera] = 100 * torch.randn_like(arguments[0][:, camera])
        if not lidar:
            arguments[2] = 100 * torch.randn_like(arguments[2])
        for got, expected in zip(columns(net(*arguments)), reference, strict=True):
            assert torch.equal(got, expected)


def test_calibration_of_a_missing_camera_changes_nothing(net: DetectorNet) -> None:
    K, T = rig()
    present = torch.tensor([[1.0, 0.0, 1.0]])
    moved = T.clone()
    moved[:, 1] = torch.tensor(looking(2.0, 3.0))
    image, place, reference, ray = net.position(K, T, present)
    image2, place2, reference2, ray2 = net.position(K, moved, present)
    arguments = inputs(net, (1, 0, 1))
    with torch.no_grad():
        first = net(*arguments[:4], image, place, reference, ray)
        second = net(*arguments[:4], image2, place2, reference2, ray2)
    assert torch.equal(reference, reference2)
    assert all(torch.equal(a, b) for a, b in zip(columns(first), columns(second), strict=True))


@pytest.mark.parametrize("subset", [(1, 0, 1, 1), (0, 1, 0, 0), (0, 0, 0, 1), (1, 1, 1, 0)])
def test_masked_tokens_are_as_good_as_not_there(net: DetectorNet, subset: tuple[int, ...]) -> None:
    arguments = inputs(net, subset[:3], subset[3])
    rows, cols = SMALL.image_tokens
    nx, ny = SMALL.canvas_tokens
    keep = torch.tensor(subset).repeat_interleave(torch.tensor([rows * cols] * 3 + [nx * ny])).bool()
    with torch.no_grad():
        weights = net.attention(*arguments)
        tokens = net.encode(*arguments[:6])
        queries, position, _, mask = net.queries(tokens, arguments[3], *arguments[6:])
        whole = net.decode(tokens, queries, position, mask)[-1][0]
        shown = mask[0, 0, 0] == 0
        short = dataclasses.replace(
            tokens, memory=tokens.memory[:, keep], position=tokens.position[:, keep], mask=tokens.mask[..., keep]
        )
        cut = net.decode(short, queries[:, shown], position[:, shown], mask[..., shown])[-1][0]
    assert weights.shape == (1, SMALL.decoder_layers, SMALL.queries, SMALL.token_count)
    assert (weights[..., ~keep] == 0).all()
    torch.testing.assert_close(weights.sum(-1), torch.ones(1, SMALL.decoder_layers, SMALL.queries))
    learned, lidar, images = SMALL.learned_queries, SMALL.candidate_queries, SMALL.image_queries
    assert shown.tolist() == [True] * learned + [subset[3] == 1] * lidar + [any(subset[:3])] * images
    torch.testing.assert_close(whole[:, shown], cut, rtol=1e-4, atol=1e-5)


def test_without_lidar_no_candidate_is_an_object(net: DetectorNet) -> None:
    with torch.no_grad():
        score = net(*inputs(net, lidar=0.0)).logits[0].sigmoid()
    kinds = np.array([SMALL.kind_of_query(row) for row in range(SMALL.queries)])
    assert sorted(set(kinds)) == ["a camera candidate", "a learned query", "a lidar candidate"]
    assert (score[kinds == "a lidar candidate"] == 0).all()
    assert (score[kinds != "a lidar candidate"] > 0).all()
    with torch.no_grad():
        score = net(*inputs(net, (0, 0, 0))).logits[0].sigmoid()
    assert (score[kinds == "a camera candidate"] == 0).all()
    assert (score[kinds != "a camera candidate"] > 0).all()


def test_candidates_of_the_lidar_answer_with_their_place_and_the_decoder_alike(net: DetectorNet) -> None:
    arguments = inputs(net)
    first, count = SMALL.learned_queries, SMALL.candidate_queries
    with torch.no_grad():
        tokens = net.encode(*arguments[:6])
        queries, position, reference, mask = net.queries(tokens, arguments[3], *arguments[6:])
        said = net.heads(net.decode(tokens, queries, position, mask)[-1][0], reference).logits[0]
        logits = net(*arguments).logits[0]
        changed = build(SMALL, 1)
        changed.load_state_dict(net.state_dict())
        changed.score_scale.fill_(0.5)
        changed.score_bias.fill_(-1.0)
        scaled = changed(*arguments).logits[0]
    for row in range(SMALL.queries):
        expected = said[row]
        if first <= row < first + count:
            expected = 0.5 * (expected + tokens.peaks[0, tokens.candidates[0, row - first]])
        torch.testing.assert_close(logits[row], expected)
    torch.testing.assert_close(scaled, 0.5 * logits - 1.0)


def test_order_of_cameras_does_not_matter(net: DetectorNet) -> None:
    arguments = inputs(net, (1, 1, 0))
    order = [2, 0, 1]
    K, T = rig()
    present = arguments[1][:, order]
    with torch.no_grad():
        expected = columns(net(*arguments))
        position = net.position(K[:, order], T[:, order], present)
        got = columns(net(arguments[0][:, order], present, *arguments[2:4], *position))
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_batch_rows_do_not_touch_each_other(net: DetectorNet) -> None:
    two = inputs(net, batch=2)
    with torch.no_grad():
        both = columns(net(*two))
        for row in (0, 1):
            one = [x[row : row + 1] if x.shape[0] == 2 else x for x in two]
            for a, b in zip(columns(net(*one)), both, strict=True):
                torch.testing.assert_close(a[0], b[row], rtol=1e-4, atol=1e-5)


def test_candidates_lie_on_their_places_and_are_the_best(net: DetectorNet) -> None:
    with torch.no_grad():
        arguments = inputs(net)
        tokens = net.encode(*arguments[:6])
        _, position, reference, _ = net.queries(tokens, arguments[3], *arguments[6:])
    assert len(set(tokens.candidates[0].tolist())) == SMALL.candidate_queries
    ny = SMALL.canvas_places[1]
    for number, place in enumerate(tokens.candidates[0].tolist()):
        x = SMALL.x_range_m[0] + (place // ny + 0.5) * SMALL.place_m
        y = SMALL.y_range_m[0] + (place % ny + 0.5) * SMALL.place_m
        expected = torch.tensor([x, y, SMALL.candidate_z_m])
        torch.testing.assert_close(reference[0, SMALL.learned_queries + number], expected, rtol=0, atol=1e-4)
        table = arguments[6][0, SMALL.learned_queries + place]
        assert torch.equal(position[0, SMALL.learned_queries + number], table)


def test_places_know_their_token_and_what_the_stem_knows_of_them(net: DetectorNet) -> None:
    nx, ny = SMALL.canvas_tokens
    tokens = torch.randn(1, nx * ny, SMALL.width)
    places = torch.randn(1, 4 * nx * ny, SMALL.place_channels)
    with torch.no_grad():
        heat = net.heatmap(tokens, places).unflatten(1, SMALL.canvas_places)
        chosen = torch.tensor([[0, 1, 2 * ny, 2 * ny + 1, 2 * ny * 7 + 9]])
        features = net.candidate(tokens, places, chosen)[0]
        for number, place in enumerate(chosen[0].tolist()):
            row, column = place // (2 * ny), place % (2 * ny)
            corner = row % 2 * 2 + column % 2
            token = tokens[0, row // 2 * ny + column // 2]
            of_place = net.heatmap.of_place(places[0, place])
            said = net.heatmap.of_token(token).unflatten(0, (4, 10))[corner] + of_place
            torch.testing.assert_close(heat[0, row, column], said, rtol=1e-4, atol=1e-4)
            began = net.candidate.of_token(token) + net.candidate.of_place(places[0, place])
            torch.testing.assert_close(features[number], began + net.candidate.corner[corner], rtol=1e-4, atol=1e-4)


def test_near_a_place_of_a_vehicle_only_the_peak_is_a_candidate(net: DetectorNet) -> None:
    nx, ny = SMALL.canvas_places
    heat = torch.full((1, nx, ny, 10), -6.0)
    heat[0, 5, 5, 0], heat[0, 5, 6, 0], heat[0, 7, 5, 0] = 2.0, 1.5, 1.75  # one car over three places
    heat[0, 10, 10, 1] = 1.0  # a truck
    heat[0, 12, 3, 5], heat[0, 12, 4, 5] = 0.5, 0.4  # two pedestrians side by side
    peaks = net._peaks(heat.reshape(1, nx * ny, 10))[0]
    best = peaks.amax(dim=-1).topk(4).indices.tolist()
    assert best == [5 * ny + 5, 10 * ny + 10, 12 * ny + 3, 12 * ny + 4]
    # Nor would it be shown, were it a candidate all the same.
    assert peaks[5 * ny + 5, 0] == 2.0
    assert (peaks[[5 * ny + 6, 7 * ny + 5], 0] < -1.0).all()
    assert peaks.min() >= -20.0


def test_candidates_of_cameras_lie_on_the_rays_of_their_tokens_at_the_depth_that_these_tell(net: DetectorNet) -> None:
    K, T = rig()
    rows, cols = SMALL.image_tokens
    with torch.no_grad():
        arguments = inputs(net)
        tokens = net.encode(*arguments[:6])
        tokens.log_depth = torch.linspace(0.5, 3.5, tokens.log_depth.shape[1])[None]
        _, position, reference, _ = net.queries(tokens, arguments[3], *arguments[6:])
    chosen = tokens.image_candidates[0].tolist()
    assert len(set(chosen)) == SMALL.image_queries
    for number, token in enumerate(chosen, SMALL.queries - SMALL.image_queries):
        slot, row, col = token // (rows * cols), token % (rows * cols) // cols, token % cols
        intrinsics = K[0, slot].double().numpy()
        local = transform_points(invert_pose(T[0, slot].double().numpy()), reference[:, number].double().numpy())
        pixel, depth = project_points(local, intrinsics)
        np.testing.assert_allclose(pixel[0], [col * 16 + 7.5, row * 16 + 7.5], atol=1e-3)
        told = float(tokens.log_depth[0, token].exp())
        assert depth[0] == pytest.approx(told * intrinsics[0, 0] / SMALL.usual_focal_px, rel=1e-5)
        assert torch.equal(position[0, number], arguments[4][0, token])


def test_the_depth_that_image_tokens_tell_depends_on_where_they_look(
    net: DetectorNet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row on which something stands tells how far away it is: of tokens that all say the same, too."""
    monkeypatch.setattr(net.image_encoder, "forward", lambda images, position: torch.ones_like(position))
    arguments = inputs(net)
    with torch.no_grad():
        tokens = net.encode(*arguments[:6])
    assert tokens.image_heatmap.std(dim=1).max() < 1e-6
    assert tokens.log_depth.unique().numel() > 0.9 * tokens.log_depth.numel()


def test_in_an_image_only_the_peak_of_an_object_is_a_candidate(net: DetectorNet) -> None:
    rows, cols = SMALL.image_tokens
    heat = torch.full((1, 3, rows, cols, 10), -6.0)
    heat[0, 0, 1, 1, 0], heat[0, 0, 1, 2, 0] = 2.0, 1.9  # a car over two tokens
    heat[0, 2, 0, 4, 5], heat[0, 2, 2, 4, 5] = 1.0, 0.9  # two pedestrians, two tokens apart
    heat[0, 1, 0, 0, 0] = 0.8  # the next camera's corner is no neighbour of the first one's
    scores = net._image_peaks(heat.reshape(1, 3 * rows * cols, 10))[0]
    best = [(t // (rows * cols), t % (rows * cols) // cols, t % cols) for t in scores.topk(4).indices.tolist()]
    assert best == [(0, 1, 1), (2, 0, 4), (2, 2, 4), (1, 0, 0)]


def test_a_query_on_a_tokens_ray_looks_like_the_token(net: DetectorNet) -> None:
    """What the embedding of images is for: the reference point's embedding is that of the token that sees it."""
    cols, ny = SMALL.image_tokens[1], SMALL.canvas_places[1]
    K, _ = rig((0.0,))
    candidate = 9 * ny + 4
    point = net.position.places[candidate].double().numpy()
    row, col, depth = 1, 3, 6.5
    pixel = np.array([col * 16 + 7.5, row * 16 + 7.5, 1.0])
    T = looking(0.4)
    T[:3, 3] = point - T[:3, :3] @ (np.linalg.inv(K[0, 0].double().numpy()) @ pixel * depth)
    pose = torch.tensor(T, dtype=torch.float32)[None, None]
    net_one = build(dataclasses.replace(SMALL, cameras=1), 1)
    with torch.no_grad():
        image, _, reference, _ = net_one.position(K, pose, torch.ones(1, 1))
        seen_from = reference[0, SMALL.learned_queries + candidate] - net_one.position.place_embedding(
            net.position.places[candidate]
        )
    distances = (image[0] - seen_from).norm(dim=-1)
    assert distances.argmin() == row * cols + col
    assert distances.min() < 1e-3 * distances.median()


def test_queries_carry_rays_of_just_the_cameras_that_see_them(net: DetectorNet) -> None:
    K, T = rig()
    with torch.no_grad():
        points = net.position.reference_points().double().numpy()[SMALL.learned_queries :]
        for camera in range(3):
            only = torch.zeros(1, 3)
            only[0, camera] = 1.0
            reference = net.position(K, T, only)[2]
            place = net.position.place_embedding(net.position.places)
            embedded = (reference[0, SMALL.learned_queries :] - place).abs().amax(-1).numpy() > 0
            local = transform_points(invert_pose(T[0, camera].double().numpy()), points)
            pixels, depth = project_points(local, K[0, camera].double().numpy())
            with np.errstate(invalid="ignore"):
                seen = (depth > 0.3) & (pixels > -0.5).all(1) & (pixels < np.array([95.5, 47.5])).all(1)
            assert np.array_equal(embedded, seen)
            assert 0 < seen.sum() < len(seen)


def test_every_parameter_learns() -> None:
    net = build(SMALL, 2).train()
    with torch.no_grad():  # what begins as nothing passes no gradient on before its own first step
        net.lidar_encoder.context.back.weight.normal_(std=0.02)
        for pair in (net.lidar_encoder.refine, *net.lidar_encoder.context.convolutions):
            pair.second[1].weight.fill_(1.0)
    arguments = inputs(net, batch=2)
    loss = sum(column.square().mean() for column in columns(net(*arguments)))
    tokens = net.encode(*arguments[:6])
    loss = loss + tokens.heatmap.square().mean() + tokens.image_heatmap.square().mean() + tokens.log_depth.mean()
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        # A key's bias shifts all scores of a query alike: softmax does not see it.
        assert name.endswith("attention.key.bias") or parameter.grad.abs().max() > 0, name


def test_seed_decides_the_weights_and_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, second, third = build(SMALL, 7), build(SMALL, 7), build(SMALL, 8)
    assert torch.equal(torch.rand(3), expected)
    states = [net.state_dict() for net in (first, second, third)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["heatmap.of_token.weight"], states[2]["heatmap.of_token.weight"])


def test_untrained_scores_are_the_prior(net: DetectorNet) -> None:
    with torch.no_grad():
        prediction = net(*inputs(net))
    assert 0.003 < prediction.logits.sigmoid().median() < 0.03


@pytest.mark.parametrize(("config", "low", "high"), [(NANO, 8, 12), (TINY, 50, 85)])
def test_arithmetic_of_the_shipped_sizes(config: ModelConfig, low: float, high: float) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from karp_perception.detection.runtime.graph import network_inputs

    with torch.device("meta"):
        net = DetectorNet(config).eval()
        arguments = [torch.zeros(shape) for shape in network_inputs(config).values()]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*arguments)
    assert low < counter.get_total_flops() / 1e9 < high


def test_configurations_survive_json_and_refuse_nonsense() -> None:
    for config in MODELS.values():
        assert ModelConfig.from_json(config.to_json()) == config
    with pytest.raises(ConfigurationError, match="whole number of windows"):
        dataclasses.replace(NANO, x_range_m=(-10.0, 10.0))
    with pytest.raises(ConfigurationError, match="multiple of heads"):
        dataclasses.replace(NANO, heads=5)
    with pytest.raises(ConfigurationError, match="fields of ModelConfig"):
        ModelConfig.from_json('{"depth": 3}')
    with pytest.raises(ConfigurationError, match="JSON"):
        ModelConfig.from_json("{")

"""Which detection came of which query, and what its answer rests on: against networks whose attention is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_model import SMALL, camera, looking, small_weights, sweep  # noqa: E402

from karp_perception.core import (  # noqa: E402
    CameraFrame,
    ConfigurationError,
    InvalidInput,
    LidarSweep,
    SensorFrame,
)
from karp_perception.core.geometry import invert_pose, project_points, transform_points  # noqa: E402
from karp_perception.detection.decoding import decode, decode_rows  # noqa: E402
from karp_perception.detection.detector import Detector, DetectorSettings  # noqa: E402
from karp_perception.detection.explanation import (  # noqa: E402
    Explainer,
    image_token_to_pixel,
    lidar_token_to_base,
)
from karp_perception.detection.model import attribution  # noqa: E402
from karp_perception.detection.model.detector_net import DetectorNet, Tokens, build  # noqa: E402
from karp_perception.detection.model.weights import load_network, save_weights  # noqa: E402
from karp_perception.detection.preprocessing import network_arrays  # noqa: E402

NX, NY = SMALL.canvas_tokens
ROWS, COLUMNS = SMALL.image_tokens
LIDAR_TOKENS = NX * NY


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def settings(weights: Path) -> DetectorSettings:
    return DetectorSettings(model=str(weights), backend="torch", score_threshold=0.5, threads=1, refiner="none")


@pytest.fixture(scope="module")
def explainer(settings: DetectorSettings) -> Explainer:
    return Explainer(settings)


def frame(seed: int = 0, **names: float) -> SensorFrame:
    rng = np.random.default_rng(seed)
    return SensorFrame(5, {name: camera(rng, yaw) for name, yaw in names.items()}, sweep(rng))


def test_rows_are_those_that_the_boxes_were_made_of() -> None:
    rng = np.random.default_rng(0)
    widths = {"logits": 10, "center": 3, "log_size": 3, "direction": 2, "velocity": 2, "log_variance": 9}
    outputs = {name: rng.normal(0, 1, (1, 30, width)).astype(np.float32) for name, width in widths.items()}
    outputs["velocity"][0, 4] = np.nan
    boxes, rows = decode_rows(outputs, 0.6, 12)
    assert 0 < len(boxes) <= 12
    assert 4 not in rows
    np.testing.assert_array_equal(boxes.center, outputs["center"][0, rows].astype(float))
    np.testing.assert_array_equal(boxes.label, outputs["logits"][0, rows].argmax(axis=1))
    np.testing.assert_array_equal(decode(outputs, 0.6, 12).center, boxes.center)
    assert len(decode_rows(outputs, 1.0, 12)[1]) == 0


def test_it_explains_what_the_detector_detects(explainer: Explainer, settings: DetectorSettings) -> None:
    seen = frame(1, left=0.6, right=-0.6)
    found, explanation = Detector(settings).detect(seen), explainer.explain(seen)
    assert len(found) > 3
    for name in ("center", "size", "yaw", "velocity", "label", "score"):
        np.testing.assert_allclose(getattr(explanation.boxes, name), getattr(found, name), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["last", "mean"])
def test_plain_attention_is_that_of_the_network(method: str, settings: DetectorSettings) -> None:
    seen = frame(2, a=0.0, b=1.5)
    explainer = Explainer(settings, method)
    explanation = explainer.explain(seen)
    net = load_network(explainer.source)
    rig, arrays = network_arrays(seen, SMALL)
    inputs = [torch.from_numpy(arrays[name]) for name in ("images", "camera_present", "canvas", "lidar_present")]
    names = ("intrinsics", "T_base_camera", "camera_present")
    with torch.no_grad():
        position = net.position(*(torch.from_numpy(rig.calibration[name]) for name in names))
        layers = net.attention(*inputs, *position)[0]
    expected = (layers[-1] if method == "last" else layers.mean(dim=0))[explanation.query].numpy()
    images = expected[:, :-LIDAR_TOKENS].reshape(-1, 3, ROWS, COLUMNS)
    assert explanation.cameras == rig.names
    np.testing.assert_allclose(explanation.image_attention, images[:, :2], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(
        explanation.lidar_attention, expected[:, -LIDAR_TOKENS:].reshape(-1, NX, NY), rtol=1e-4, atol=1e-7
    )
    np.testing.assert_allclose(explanation.flat(), expected, rtol=1e-4, atol=1e-7)


def test_attention_to_everything_alike_is_shared_by_the_number_of_tokens(tmp_path: Path) -> None:
    net = build(SMALL, 4)
    with torch.no_grad():
        net.heads.logits.bias.fill_(2.0)
        for layer in net.layers:
            layer.to_tokens.attention.query.weight.zero_()
            layer.to_tokens.attention.query.bias.zero_()
    save_weights(net, tmp_path / "alike.safetensors", half=False)
    for method in ("last", "mean"):
        explainer = Explainer(DetectorSettings(model=str(tmp_path / "alike.safetensors")), method)
        explanation = explainer.explain(frame(3, a=0.0, b=1.5))
        whole = 2 * ROWS * COLUMNS + LIDAR_TOKENS
        np.testing.assert_allclose(explanation.lidar_attention, 1 / whole, rtol=1e-5)
        assert explanation.shares(0) == pytest.approx(
            {"a": ROWS * COLUMNS / whole, "b": ROWS * COLUMNS / whole, "lidar": LIDAR_TOKENS / whole}
        )


def known_tokens(memory: torch.Tensor, position: torch.Tensor) -> Tokens:
    """Tokens (1, M, D) none of which is masked and none of which becomes a query."""
    mask, none = memory.new_zeros(1, 1, 1, memory.shape[1]), torch.zeros(1, 0)
    heat = torch.zeros(1, 0, 10)
    return Tokens(memory, position, mask, heat, heat, heat, none, torch.zeros(1, 0, 10), none, none)


def known_network() -> tuple[DetectorNet, attribution.Encoded]:
    """A network of one decoder layer and one head, with tokens whose part in the answer is known.

    Queries attend to tokens by feature 0 of the token alone, take over its feature 1, and answer with feature 1.
    Tokens 3 and 8 are attended to alike and all others not at all; of the two only token 8 says anything.
    """
    config = dataclasses.replace(SMALL, decoder_layers=1, heads=1, learned_queries=2)
    net = build(config, 0)
    width, count = config.width, 12
    with torch.no_grad():
        layer = net.layers[0]
        for block in (layer.among_queries, layer.to_tokens):
            for parameter in (*block.attention.parameters(), *block.mlp.parameters()):
                parameter.zero_()
        attention = layer.to_tokens.attention
        attention.query.bias[0] = width**0.5  # of scaled dot products
        attention.key.weight[0, 0] = 1.0
        attention.value.weight[1, 1] = 1.0
        attention.output.weight[1, 1] = 1.0
        for parameter in net.heads.parameters():
            parameter.zero_()
        net.heads.norm.weight.fill_(1.0)
        net.heads.shared[0].weight[1, 1] = 1.0
        net.heads.logits.weight[0, 1] = 1.0
    memory = torch.zeros(1, count, width)
    memory[0, [3, 8], 0] = 60.0
    memory[0, 8, 1] = 5.0
    zeros = torch.zeros(1, count, width)
    tokens = known_tokens(memory, zeros)
    queries = torch.randn(1, 2, width, generator=torch.Generator().manual_seed(0))
    empty = torch.zeros(1, 2, 3), torch.zeros(1, 1, 1, 2)
    return net, attribution.Encoded(tokens, queries, torch.zeros_like(queries), *empty)


def test_methods_name_what_a_known_network_rests_on() -> None:
    net, encoded = known_network()
    found = {m: attribution.attribute(net, encoded, [0, 1], [0, 0], m).numpy() for m in attribution.METHODS}
    half = np.zeros((2, 12))
    half[:, [3, 8]] = 0.5
    alone = np.zeros((2, 12))
    alone[:, 8] = 1.0
    for method in ("last", "mean", "rollout"):  # where it looked
        np.testing.assert_allclose(found[method], half, atol=1e-6)
    for method in ("values", "gradient"):  # what it got there
        np.testing.assert_allclose(found[method], alone, atol=1e-6)


def test_the_gradient_is_that_of_the_answer_by_the_mask(weights: Path) -> None:
    net = load_network(Explainer(DetectorSettings(model=str(weights))).source).double()
    generator = torch.Generator().manual_seed(1)
    count = SMALL.token_count

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    tokens = known_tokens(normal(1, count, 32), normal(1, count, 32))
    encoded = attribution.Encoded(tokens, normal(1, 9, 32), normal(1, 9, 32), normal(1, 9, 3),
                                  torch.zeros(1, 1, 1, 9, dtype=torch.float64))  # fmt: skip
    row, label, step = 4, 2, 1e-4
    found = attribution.attribute(net, encoded, [row], [label], "gradient")[0].numpy()
    slopes = []
    for token in range(0, count, 23):
        answers = []
        for sign in (1, -1):
            added = torch.zeros(1, 1, 1, count, dtype=torch.float64)
            added[..., token] = sign * step
            moved = dataclasses.replace(tokens, mask=added)
            answers.append(attribution.predict(net, dataclasses.replace(encoded, tokens=moved)).logits[0, row, label])
        slopes.append(float(answers[0] - answers[1]) / (2 * step))
    expected = np.clip(slopes, 0, None)
    assert 0 < (expected > 0).sum() < len(expected)
    np.testing.assert_allclose(found[::23] / found[::23].sum(), expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize("method", attribution.METHODS)
def test_attention_sums_to_one_over_what_was_there(method: str, settings: DetectorSettings) -> None:
    explainer = Explainer(dataclasses.replace(settings, score_threshold=0.3), method)
    whole = frame(4, a=0.0)
    for seen in (whole, SensorFrame(5, {}, whole.lidar), SensorFrame(5, whole.cameras)):
        explanation = explainer.explain(seen)
        assert len(explanation) > 0
        np.testing.assert_allclose(explanation.flat().sum(axis=1), 1.0, rtol=1e-5)
        assert set(explanation.shares(0)) == {*seen.cameras, *(["lidar"] if seen.lidar else [])}
        assert sum(explanation.shares(0).values()) == pytest.approx(1.0)
        if seen.lidar is None:
            assert "a lidar candidate" not in map(SMALL.kind_of_query, explanation.query)
    assert len(explainer.explain(SensorFrame(5, {}))) == 0


def test_hidden_tokens_are_as_good_as_not_there(explainer: Explainer, weights: Path) -> None:
    seen = frame(5, a=0.0, b=1.2)
    hidden = np.random.default_rng(0).random((11, SMALL.token_count)) < 0.3
    hidden[0] = False
    scores, centers = explainer.answers_without(seen, hidden)
    plain = explainer.explain(seen)
    np.testing.assert_allclose(scores[0, plain.query].max(axis=1), plain.boxes.score, rtol=1e-5)
    np.testing.assert_allclose(centers[0, plain.query], plain.boxes.center, rtol=1e-5)
    net = load_network(explainer.source)
    rig, arrays = network_arrays(seen, SMALL)
    whole = attribution.encode(net, arrays, rig.calibration)
    for number, mask in enumerate(torch.from_numpy(hidden)):
        tokens = whole.tokens
        rest = dataclasses.replace(
            tokens, memory=tokens.memory[:, ~mask], position=tokens.position[:, ~mask], mask=tokens.mask[..., ~mask]
        )
        expected = attribution.predict(net, dataclasses.replace(whole, tokens=rest))
        np.testing.assert_allclose(scores[number], expected.logits[0].sigmoid().numpy(), atol=1e-4)
        np.testing.assert_allclose(centers[number], expected.center[0].numpy(), atol=1e-3)


def test_emptied_inputs_are_those_under_the_tokens(explainer: Explainer, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = 5.0, -3.0  # m
    point = np.array([[x, y, 0.5, 0.5]], np.float32)
    seen = SensorFrame(5, {"a": camera(np.random.default_rng(6), 0.0)}, LidarSweep(point, 0))
    lidar = np.flatnonzero(explainer.delivered(seen)[-LIDAR_TOKENS:])
    i, j = divmod(int(lidar[0]), NY)
    assert len(lidar) == 1
    np.testing.assert_allclose(lidar_token_to_base(SMALL) @ (i, j, 1), (x, y), atol=SMALL.token_m / 2)

    given = []
    encode = attribution.encode
    monkeypatch.setattr(
        attribution, "encode", lambda net, arrays, rig: (given.append(arrays), encode(net, arrays, rig))[1]
    )
    hidden = np.zeros((2, SMALL.token_count), bool)
    hidden[0, -LIDAR_TOKENS + int(lidar[0])] = True
    row, column = 1, 4
    hidden[1, row * COLUMNS + column] = True
    explainer.answers_without(seen, hidden, from_inputs=True)
    _, arrays = network_arrays(seen, SMALL)
    assert arrays["canvas"].any()
    assert not given[0]["canvas"].any()
    np.testing.assert_array_equal(given[0]["images"], arrays["images"])
    np.testing.assert_array_equal(given[1]["canvas"], arrays["canvas"])
    changed = (given[1]["images"] != arrays["images"])[0, 0].any(axis=0)
    expected = np.zeros_like(changed)
    expected[16 * row : 16 * row + 16, 16 * column : 16 * column + 16] = True
    np.testing.assert_array_equal(changed, expected)


@pytest.mark.parametrize("shape", [(90, 200), (30, 200), (480, 640), (100, 60)])
def test_image_tokens_lie_where_their_rays_meet_the_image(shape: tuple[int, int], explainer: Explainer) -> None:
    """Tokens -> rays by the intrinsics of the cut image -> pixels of the whole image, against the affine map."""
    height, width = shape
    K = np.array([[0.6 * width, 0.4, 0.45 * width], [0, 0.63 * width, 0.5 * height], [0, 0, 1]])
    source = CameraFrame(np.zeros((height, width, 3), np.uint8), K, looking(0.3, 1.2), 0)
    rig, _ = network_arrays(SensorFrame(0, {"a": source}), SMALL)
    row, column = np.mgrid[:ROWS, :COLUMNS].reshape(2, -1)
    center = np.column_stack([16 * column + 7.5, 16 * row + 7.5, np.ones(row.size)])
    rays = center @ np.linalg.inv(rig.intrinsics[0, 0].astype(float)).T
    points = transform_points(source.T_base_camera, 7.0 * rays)
    expected, _ = project_points(transform_points(invert_pose(source.T_base_camera), points), K)
    got = np.column_stack([column, row, np.ones(row.size)]) @ image_token_to_pixel(source, SMALL).T
    np.testing.assert_allclose(got, expected, atol=0.01)


def test_only_rows_with_pixels_are_delivered(explainer: Explainer) -> None:
    wide = camera(np.random.default_rng(7), 0.0, (40, 200))  # 19 of 48 rows: the rest is padding
    delivered = explainer.delivered(SensorFrame(0, {"a": wide}))
    images = delivered[:-LIDAR_TOKENS].reshape(3, ROWS, COLUMNS)
    assert images[0, :2].all()
    assert not images[0, 2].any()
    assert not images[1:].any()
    assert not delivered[-LIDAR_TOKENS:].any()


def test_what_cannot_be_explained_is_refused(settings: DetectorSettings, explainer: Explainer) -> None:
    with pytest.raises(ConfigurationError, match="nothing to explain"):
        Explainer(DetectorSettings(model="none"))
    with pytest.raises(ConfigurationError, match="last, mean"):
        Explainer(settings, "guess")
    with pytest.raises(InvalidInput, match="hidden tokens"):
        explainer.answers_without(frame(8, a=0.0), np.zeros((2, 5), bool))

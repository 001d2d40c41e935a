"""Running a detector over labelled frames: what counts, what comes out, and that it does not depend on the order."""

from __future__ import annotations

import io
import json
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from known_truth import POINTS_EACH, Knowing, boxes, labelled, street
from rich.console import Console
from small_model import SMALL
from tiny_world import TinyPlaces, TinyWorld

from karp_perception.core import Boxes, ConfigurationError, Distortion, DistortionModel, SensorFrame
from karp_perception.detection.detector import DetectorSettings
from karp_perception.detection.model.detector_net import build
from karp_perception.detection.model.weights import save_weights
from karp_perception.detection.training import world_frames as training
from karp_perception.evaluation.detection import (
    AS_IT_IS,
    DetectedFrame,
    open_detector,
    run_detector,
    scored_frames,
)
from karp_perception.evaluation.detection_report import detection_report
from karp_perception.evaluation.detection_run import EvaluationOptions, Source, evaluate, folder_source
from karp_perception.evaluation.detection_tables import report_tables
from karp_perception.evaluation.evaluation_frame import EvaluationFrame
from karp_perception.evaluation.group_precision import by_threshold, group_matches, group_precision
from karp_perception.evaluation.held_out_frames import (
    EVALUATION_SEEDS,
    PER_DRIVE,
    HeldOutFrames,
    seed_of,
)
from karp_perception.evaluation.nuscenes_config import CVPR_2019, NuscenesConfig
from karp_perception.evaluation.nuscenes_metrics import nuscenes_metrics
from karp_perception.evaluation.operating_point import operating_point
from karp_perception.evaluation.scored_frames import ScoredFrame
from karp_perception.evaluation.sensor_subsets import subset_table, subset_variants, subsets_of
from karp_perception.world.layouts.families import FAMILIES
from karp_perception.world.world_frames import HELD_OUT_FAMILY, Beginning

AHEAD, BEHIND = {"front": 0.0}, {"back": np.pi}


def detected(frame: EvaluationFrame | object, found: Boxes, has_lidar: bool = True) -> DetectedFrame:
    return DetectedFrame(0, "one", "made up", frame, has_lidar, {AS_IT_IS: found})


# --- which labels count


def test_with_a_lidar_labels_with_a_point_count_all_around() -> None:
    truth = labelled(boxes([(10, 0, 0), (-10, 0, 0), (20, 5, 5)]), cameras=AHEAD, seen_by_lidar=[True, True, False])
    scored = detected(truth, boxes([(10, 0, 0), (-20, 0, 0)])).scored()
    assert scored.truth.center[:, 0].tolist() == [10, -10]
    assert scored.points_inside.tolist() == [POINTS_EACH, POINTS_EACH]
    assert len(scored.detections) == 2


def test_without_a_lidar_labels_that_a_camera_sees_count() -> None:
    labels = boxes([(10, 0, 0), (-10, 0, 0), (20, 5, 5), (25, -5, 0)])
    truth = labelled(labels, cameras=AHEAD, visibility=[1.0, 1.0, 0.19, 0.2], lidar=False)
    scored = detected(truth, boxes([(11, 0, 0), (-11, 0, 0)]), has_lidar=False).scored()
    assert scored.truth.center[:, 0].tolist() == [10, 25]
    assert (scored.points_inside > 0).all(), "the metrics leave out labels without points"
    assert scored.detections.center[:, 0].tolist() == [11], "behind the camera nothing counts"


def test_the_rule_of_cameras_can_be_asked_for_where_there_is_a_lidar() -> None:
    labels = boxes([(10, 0, 0), (-10, 0, 0), (20, 5, 5)])
    truth = labelled(labels, cameras=AHEAD | BEHIND, visibility=[1, 1, 1], seen_by_lidar=[False, True, True])
    frame = detected(truth, labels)
    assert frame.scored(cameras=["front"]).truth.center[:, 0].tolist() == [10, 20]
    assert frame.scored(cameras=["back"]).truth.center[:, 0].tolist() == [-10]
    assert len(frame.scored(cameras=["front", "back"]).truth) == 3
    assert len(frame.scored(cameras=["left"]).truth) == 0, "a camera that the frame does not have sees nothing"


def test_where_labels_end_with_the_view_of_the_camera_so_do_detections() -> None:
    truth = labelled(boxes([(10, 0, 0), (20, 0, 0)]), cameras=AHEAD, sector=True)
    scored = detected(truth, boxes([(10, 0, 0), (-10, 0, 0)])).scored()
    assert len(scored.detections) == 1
    assert len(scored.truth) == 2


def test_detections_on_objects_without_label_do_not_count_but_on_labels_they_do() -> None:
    truth = labelled(boxes([(10, 0, 0)]), unlabelled=[(12, 0, 6)])
    scored = detected(truth, boxes([(10, 0, 0), (16, 0, 0), (30, 0, 0)])).scored()
    assert scored.detections.center[:, 0].tolist() == [10, 30]


def test_visibility_that_nobody_tells_is_shown_by_points() -> None:
    truth = labelled(boxes([(10, 0, 0), (20, 0, 0)]), cameras=AHEAD, seen_by_lidar=[True, False])
    assert len(detected(truth, Boxes.empty()).scored(cameras=["front"]).truth) == 1
    blind = replace(truth, points_inside=np.zeros(2, int))
    assert len(detected(blind, Boxes.empty(), has_lidar=False).scored().truth) == 2


# --- a run


def test_a_detector_that_knows_the_truth_scores_one_everywhere() -> None:
    items = [street(k) for k in range(6)]
    report = detection_report(run_detector(items, Knowing(items)), 0.3)
    assert report["mean_ap"] == pytest.approx(1.0)
    assert report["nds"] == pytest.approx(1.0)
    assert report["classes"] == ["car", "truck", "pedestrian", "bicycle"]
    assert report["all_classes"]["mean_ap"] == pytest.approx(0.4), "six of ten classes do not occur"
    point = report["operating_point"]
    assert (point["precision"], point["recall"], point["false_alarms_per_frame"]) == (1.0, 1.0, 0.0)
    for name in ("vehicles", "pedestrians", "two_wheelers", "vulnerable"):
        assert report["groups"][name]["ap"] == pytest.approx(1.0)
        assert report["groups"][name]["center_error_m"] == 0.0


def test_results_do_not_depend_on_the_order_in_which_frames_come() -> None:
    items = [street(k, "ab"[k % 2]) for k in range(8)]
    detector = Knowing(items, noise=0.8)
    straight = detection_report(run_detector(items, detector), 0.3)
    mixed = detection_report(run_detector([items[k] for k in (5, 0, 7, 2, 1, 6, 4, 3)], detector), 0.3)
    mixed["kinds"] = {kind: mixed["kinds"][kind] for kind in straight["kinds"]}
    assert mixed == straight
    assert 0.2 < straight["mean_ap"] < 0.95


def test_no_sensor_data_is_kept() -> None:
    items = [street(0)]
    frame = run_detector(items, Knowing(items))[0]
    assert frame.frame.sensors.lidar is None
    assert all(view.image.strides[:2] == (0, 0) for view in frame.frame.sensors.cameras.values())
    assert frame.cameras == ("front", "back")


def test_lens_distortion_is_taken_out_before_the_detector_sees_an_image() -> None:
    item = street(0)
    lens = Distortion(DistortionModel.PLUMB_BOB, (-0.3, 0.1, 0.0, 0.0, 0.0))
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (60, 120, 3), np.uint8)
    bent = replace(item.frame.sensors.cameras["front"], image=image, distortion=lens)
    sensors = SensorFrame(0, {"front": bent, "back": None}, item.frame.sensors.lidar)
    seen: list[SensorFrame] = []

    class Looking(Knowing):
        def detect(self, frame, stopwatch=None):
            seen.append(frame)
            return Boxes.empty()

    run_detector([replace(item, frame=replace(item.frame, sensors=sensors))], Looking([item]))
    camera = seen[0].cameras["front"]
    assert camera.distortion.model is DistortionModel.NONE
    np.testing.assert_array_equal(camera.intrinsics, bent.intrinsics)
    wanted = cv2.undistort(image, bent.intrinsics, np.array(lens.coefficients))
    assert np.abs(camera.image.astype(int) - wanted)[5:-5, 5:-5].mean() < 3
    assert seen[0].cameras["back"] is None


def test_kinds_are_told_apart_and_the_held_out_one_beside_the_others() -> None:
    items = [street(k, "seen" if k < 4 else HELD_OUT_FAMILY) for k in range(8)]
    bad = Knowing(items[:4])
    bad.truth |= {item.frame.sensors.stamp_ns: item.frame.with_labels(np.zeros(12, bool)) for item in items[4:]}
    report = detection_report(run_detector(items, bad), 0.3, held_out=HELD_OUT_FAMILY)
    assert report["kinds"]["seen"]["mean_ap"] == pytest.approx(1.0)
    assert report["held_out_family"]["mean_ap"] == 0.0
    assert report["held_out_family"]["frames"] == 4
    assert report["held_out_family"]["others"]["nds"] == pytest.approx(1.0)
    assert 0.3 < report["mean_ap"] < 0.7


def test_what_lies_beyond_the_networks_canvas_is_left_out_of_the_score_within_its_reach() -> None:
    inside, beyond = (10.0, 0.0, 0), (-20.0, 0.0, 0)  # SMALL looks 6.4 m behind
    truth = labelled(boxes([inside, beyond]))
    frames = [detected(truth, boxes([inside]))] * 3
    report = detection_report(frames, 0.3, reach=SMALL)
    assert report["within_reach"]["mean_ap"] == pytest.approx(1.0)
    assert report["ap"]["car"] < 0.6


# --- subsets


def test_all_subsets_of_few_sensors_and_single_cameras_of_many() -> None:
    few = subsets_of(["a", "b"], True)
    assert {(s.cameras, s.lidar) for s in few} == {
        (("a",), True), (("b",), True), ((), True), (("a", "b"), False), (("a",), False), (("b",), False)
    }  # fmt: skip
    many = subsets_of(list("abcdef"), True)
    assert len(many) == 6 + 1 + 1 + 6, "lidar with each, lidar, cameras, each camera"
    assert subsets_of(["a"], False) == []


def test_rows_of_subsets_compare_like_with_like() -> None:
    items = [street(k) for k in range(5)]
    frames = run_detector(items, Knowing(items), subset_variants)
    rows = {(row["sensors"], row["labels"]): row for row in subset_table(frames)}
    for row in rows.values():
        assert row["nds"] == pytest.approx(1.0), f"{row['sensors']} finds all that it can see"
        assert row["share_of_nds"] == 1.0
    assert rows["front", "in view"]["view"] == ["front"]
    assert rows["lidar", "in view"]["view"] == ["front", "back"]
    assert ("front", "all around") not in rows
    assert ("cameras", "in view") in rows


def test_a_subset_that_finds_less_has_a_share_below_one() -> None:
    items = [street(k, cameras=AHEAD) for k in range(5)]

    class NeedsLidar(Knowing):
        def detect(self, frame, stopwatch=None):
            found = super().detect(frame, stopwatch)
            return found if frame.lidar is not None else found[found.label == 0]

    frames = run_detector(items, NeedsLidar(items), subset_variants)
    rows = {(row["sensors"], row["labels"]): row for row in subset_table(frames)}
    assert rows["lidar", "all around"]["share_of_mean_ap"] == 1.0
    classes = {int(label) for item in items for label in detected_ahead(item)}
    assert rows["front", "in view"]["share_of_mean_ap"] == pytest.approx(1 / len(classes), abs=1e-3)


def detected_ahead(item: EvaluationFrame) -> np.ndarray:
    """Labels in front of the vehicle within 45 degrees: the view of a camera that is 90 degrees wide."""
    x, y = item.frame.labels.center[:, :2].T
    return item.frame.labels.label[(x > 0) & (np.abs(y) < x)]


# --- precision at one threshold, and of groups, against plain loops


def plain_hits(frames: list[ScoredFrame], threshold: float, reach: float) -> tuple[int, int, int]:
    labels = hits = found = 0
    for frame in frames:
        near = [i for i in range(len(frame.truth)) if np.hypot(*frame.truth.center[i, :2]) < reach]
        labels += len(near)
        mine = [
            j
            for j in range(len(frame.detections))
            if frame.detections.score[j] >= threshold and np.hypot(*frame.detections.center[j, :2]) < reach
        ]
        found += len(mine)
        for j in sorted(mine, key=lambda j: -frame.detections.score[j]):
            apart = {i: np.hypot(*(frame.truth.center[i, :2] - frame.detections.center[j, :2])) for i in near}
            best = min(apart, key=apart.get, default=None)
            if best is not None and apart[best] < 2.0:
                near.remove(best)
                hits += 1
    return labels, hits, found


@given(st.integers(0, 10**6), st.floats(0.05, 0.9))
def test_the_operating_point_is_that_of_a_plain_loop(seed: int, threshold: float) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(3):
        truth = boxes([(*xy, 0) for xy in rng.uniform(-40, 40, (rng.integers(0, 6), 2))])
        off = rng.normal(0, 1.5, (len(truth), 2)) + truth.center[:, :2]
        found = boxes([(*xy, 0) for xy in np.vstack([off, rng.uniform(-40, 40, (3, 2))])])
        found = replace(found, score=rng.random(len(found)))
        frames.append(ScoredFrame(found, truth, np.ones(len(truth), int)))
    labels, hits, count = plain_hits(frames, threshold, 50.0)
    point = operating_point(frames, threshold)
    assert (point["labels"], point["hits"], point["found"]) == (labels, hits, count)
    assert point["precision"] == (round(hits / count, 4) if count else None)
    assert point["recall"] == (round(hits / labels, 4) if labels else None)


def test_groups_are_measured_over_all_frames_together() -> None:
    first = labelled(boxes([(10, 0, 0), (20, 0, 1)]))
    second = labelled(boxes([(10, 5, 0), (50, 0, 0)]))  # the far one does not count
    scores = ([0.9, 0.4], [0.6, 0.8])
    found = (boxes([(10.5, 0, 0), (20, 1, 0)]), boxes([(10, 5, 0), (10, 15, 0)]))
    frames = [
        detected(truth, replace(boxes_, score=np.array(score)))
        for truth, boxes_, score in zip((first, second), found, scores, strict=True)
    ]
    row = group_precision(group_matches(frames), 0.5)["vehicles"]
    # By score: hit, false alarm, hit, hit (a truck taken for a car is a vehicle).
    assert (row["labels"], row["hits"], row["false_alarms"]) == (3, 2, 1)
    assert row["recall"] == round(2 / 3, 4)
    several = {row["threshold"]: row["vehicles"] for row in by_threshold(group_matches(frames), [0.3, 0.5, 0.85, 0.95])}
    assert several[0.3] == {"precision": 0.75, "recall": 1.0}
    assert several[0.5] == {"precision": row["precision"], "recall": row["recall"]}
    assert several[0.85] == {"precision": 1.0, "recall": round(1 / 3, 4)}
    assert several[0.95] == {"precision": None, "recall": 0.0}
    recall = np.linspace(0, 1, 101)
    precision = np.interp(recall, [1 / 3, 1 / 3, 2 / 3, 1], [1, 1 / 2, 2 / 3, 3 / 4])
    assert row["ap"] == pytest.approx(np.maximum(precision[11:] - 0.1, 0).mean() / 0.9, abs=1e-4)


@given(st.integers(0, 10**6))
def test_a_group_of_one_class_scores_as_the_nuscenes_metrics_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frames = []
    for _ in range(3):
        truth = boxes([(*xy, 0) for xy in rng.uniform(-27, 27, (rng.integers(1, 8), 2))])  # all within 40 m
        off = rng.normal(0, 1.5, (len(truth), 2)) + truth.center[:, :2]
        found = boxes([(*xy, 0) for xy in np.vstack([off, rng.uniform(-27, 27, (4, 2))])])
        frames.append(detected(labelled(truth), replace(found, score=rng.random(len(found)))))
    config = NuscenesConfig({"car": 40.0}, distances=(2.0,))
    wanted = nuscenes_metrics(scored_frames(frames), config).mean_ap
    assert group_precision(group_matches(frames), 0.5)["vehicles"]["ap"] == pytest.approx(wanted, abs=1e-4)


# --- frames of the world


@given(st.integers(1, 60), st.integers(1, 8))
def test_every_frame_is_made_once_and_families_have_as_many(count: int, families: int) -> None:
    plan = HeldOutFrames(0, count, FAMILIES[:families])
    numbers = [i for drive in plan.drives() for i in plan.frames_of(drive)]
    assert sorted(numbers) == list(range(count))
    assert all(0 < len(plan.frames_of(drive)) <= PER_DRIVE for drive in plan.drives())
    by_family = Counter(i % families for i in range(count))
    assert max(by_family.values()) - min(by_family.values() if len(by_family) == families else [0]) <= 1


def test_seeds_are_never_those_of_training_and_differ() -> None:
    seeds = [seed_of(seed, family) for seed in range(50) for family in FAMILIES]
    assert min(seeds) >= EVALUATION_SEEDS > training.TRAINING_SEEDS
    assert len(set(seeds)) == len(seeds)
    assert set(FAMILIES) - set(training.TRAINING_FAMILIES) == {HELD_OUT_FAMILY}


def content(frames: Iterable[EvaluationFrame]) -> dict[int, tuple[str, str, bytes, bytes]]:
    found = {}
    for item in frames:
        sensors = item.frame.sensors
        image = sensors.cameras["front"].image
        found[item.index] = (item.name, item.kind, sensors.lidar.points.tobytes(), image.tobytes())
    return found


def made_here(plan: HeldOutFrames) -> dict[int, tuple[str, str, bytes, bytes]]:
    """The frames of a plan, made in this process."""
    make = plan.maker(TinyPlaces())
    return content(item for drive in plan.drives() for item in make(drive))


def test_frames_of_two_processes_are_those_of_none() -> None:
    plan = HeldOutFrames(3, 11, ("straight", "roundabout"))
    frames = made_here(plan)
    assert content(plan.stream(2, TinyPlaces())) == frames
    assert sorted(frames) == list(range(11))
    assert [frames[k][1] for k in range(4)] == ["straight", "roundabout"] * 2
    assert len({points for *_, points, _ in frames.values()}) == 11


def test_frames_are_kept_where_asked_and_taken_from_there(tmp_path: Path) -> None:
    plan = HeldOutFrames(3, 11, ("straight", "roundabout"))
    keeping = replace(plan, folder=tmp_path)
    first = made_here(keeping)
    assert {k: v[:3] for k, v in first.items()} == {k: v[:3] for k, v in made_here(plan).items()}
    folders = sorted(tmp_path.iterdir())
    assert [folder.name for folder in folders] == sorted(name for name, *_ in first.values())
    before = {folder: folder.stat().st_mtime_ns for folder in folders}
    shutil.rmtree(folders[4])
    assert made_here(keeping) == first
    for folder in folders[:4] + folders[5:]:
        assert folder.stat().st_mtime_ns == before[folder], "what is kept is not made again"


def test_two_evaluations_may_keep_their_frames_in_one_folder(tmp_path: Path) -> None:
    plan = HeldOutFrames(3, 4, ("straight",), folder=tmp_path)

    class Slow(TinyPlaces):
        """Until its world is open, somebody else has kept the same frames."""

        def __call__(self, beginning: Beginning) -> TinyWorld:
            made_here(plan)
            return super().__call__(beginning)

    frames = content(item for drive in plan.drives() for item in plan.maker(Slow())(drive))
    assert frames == made_here(plan)
    assert len(list(tmp_path.iterdir())) == 4, "nothing half made is left"


def test_processes_end_when_frames_are_given_up() -> None:
    stream = HeldOutFrames(0, 400, ("straight",)).stream(2, TinyPlaces())
    next(stream)
    assert multiprocessing.active_children()
    stream.close()
    assert not multiprocessing.active_children()


# --- what is written


def test_the_json_has_what_scripts_rely_on(tmp_path: Path) -> None:
    items = [street(k, "abc"[k % 3]) for k in range(6)]
    file = tmp_path / "made" / "figures.json"
    shares: list[float] = []
    options = EvaluationOptions(subsets=True, robustness=True, robustness_frames=2, json=file, out=tmp_path / "out")
    content = evaluate(
        Source(iter(items), 6, {"kind": "made up"}), Knowing(items, 0.4), options, lambda share, _: shares.append(share)
    )
    assert shares == pytest.approx([(k + 1) / 6 for k in range(6)])
    stored = json.loads(file.read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    assert stored == json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert stored["mean_ap"] == pytest.approx(content["mean_ap"])
    for key in ("nds", "ap", "tp_errors", "by_distance", "by_points", "groups", "kinds", "subsets", "robustness"):
        assert key in stored
    assert set(stored["tp_errors"]) == {"trans_err", "scale_err", "orient_err", "vel_err", "attr_err"}
    assert {"network", "total"} <= set(stored["latency_ms"])
    assert stored["latency_ms"]["total"]["p50"] >= stored["latency_ms"]["network"]["p50"]
    assert stored["peak_memory_mib"] > 20
    assert stored["source"] == {"kind": "made up"}
    assert [row["frame"] for row in stored["by_frame"]] == [item.name for item in items]
    assert not list(tmp_path.rglob("*.partial"))
    console = Console(record=True, width=200, file=io.StringIO())
    for table in report_tables(content):
        console.print(table)
    printed = console.export_text()
    for words in (f"mAP {content['mean_ap']:.3f}", "a 0, vehicles", "no_lidar", "lidar + front", "peak memory"):
        assert words in printed


def test_an_interrupted_run_leaves_no_file(tmp_path: Path) -> None:
    items = [street(k) for k in range(3)]

    def interrupted(share: float, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(Source(iter(items), 3, {}), Knowing(items), EvaluationOptions(json=tmp_path / "f.json"), interrupted)
    assert list(tmp_path.iterdir()) == []


# --- what is wrong is told


def test_bad_folders_and_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nowhere"):
        folder_source([tmp_path / "nowhere"])
    with pytest.raises(ConfigurationError, match=r"frame\.json"):
        folder_source([tmp_path])
    with pytest.raises(ConfigurationError, match="nothing to evaluate"):
        open_detector(DetectorSettings(model="none"))
    with pytest.raises(ConfigurationError, match="medium"):
        open_detector(DetectorSettings(model="medium"))
    with pytest.raises(ConfigurationError, match="at least 0"):
        HeldOutFrames(-1, 5, ("straight",))
    with pytest.raises(ConfigurationError, match="once"):
        HeldOutFrames(0, 5, ("straight", "straight"))


def test_no_more_detections_are_asked_for_than_the_measures_take(tmp_path: Path) -> None:
    file = tmp_path / "many.safetensors"
    save_weights(build(replace(SMALL, learned_queries=600), 0), file)
    detector = open_detector(DetectorSettings(model=str(file), backend="torch"))
    assert detector.settings.max_detections == CVPR_2019.max_boxes


def test_scored_frames_of_a_variant_are_those_it_was_run_on() -> None:
    items = [street(k) for k in range(3)]
    frames = run_detector(items, Knowing(items), lambda item: subset_variants(item) if item.index < 2 else {})
    assert len(scored_frames(frames)) == 3
    assert len(scored_frames(frames, "lidar")) == 2

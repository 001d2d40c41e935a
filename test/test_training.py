"""Training: it learns, goes on where it was stopped as if nothing had happened, and says what does not fit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from small_model import SMALL
from torch import Tensor
from training_samples import MadeUpSamples, made_up_frame

from karp_perception.core import ConfigurationError, Distortion, DistortionModel, InvalidInput
from karp_perception.detection.detector import Detector, DetectorSettings
from karp_perception.detection.model.config import NANO
from karp_perception.detection.model.weights import find_model, load_network
from karp_perception.detection.training.batches import Batches, BatchSettings, load, make_batch
from karp_perception.detection.training.checkpoint import load_checkpoint
from karp_perception.detection.training.objective import Objective
from karp_perception.detection.training.samples import DatasetSamples, MixedSamples, WorldSamples
from karp_perception.detection.training.settings import TrainSettings
from karp_perception.detection.training.trainer import CHECKPOINT, LOSSES, Progress, Ranks, TrainingDiverged, train
from karp_perception.detection.training.world_frames import TRAINING_FAMILIES, WorldDrives, training_rig
from karp_perception.world.world_frames import HELD_OUT_FAMILY

QUICK = TrainSettings(steps=8, batch_size=2, learning_rate=2e-3, warm_up=2, workers=0, augment=False, log_every=1,
                      half="off", save_every=3600.0)  # fmt: skip
ALONE = Ranks()
TEST = Path(__file__).parent


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / LOSSES).read_text().splitlines()]


def test_the_loss_falls_and_the_weights_can_be_used(tmp_path: Path) -> None:
    told: list[Progress] = []
    settings = replace(QUICK, steps=60, average=0.9)
    file = train(SMALL, MadeUpSamples(), tmp_path, settings, progress=told.append, ranks=ALONE)
    found = [json.loads(line) for line in (tmp_path / LOSSES).read_text().splitlines()]
    joint = [line for line in found if "label" in line]
    assert found.index(joint[0]) == 20, "encoders learn alone in the first third"
    for lines, name in ((found, "heatmap"), (found, "tokens"), (joint, "denoising"), (joint, "loss")):
        assert np.mean([v[name] for v in lines[-10:]]) < 0.85 * np.mean([v[name] for v in lines[:4]]), name
    assert [p.step for p in told] == list(range(1, 61))
    assert told[1].rate == settings.learning_rate
    assert told[-1].rate < 0.03 * settings.learning_rate
    assert find_model(str(file)).config == SMALL
    detector = Detector(DetectorSettings(model=str(file), backend="torch", score_threshold=0.0))
    assert 0 < len(detector.detect(made_up_frame(1).sensors)) <= SMALL.queries
    assert any(f.name.startswith("events") for f in tmp_path.iterdir())


def test_going_on_gives_the_losses_of_a_training_without_a_break(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(SMALL, MadeUpSamples(), whole, QUICK, ranks=ALONE)

    def stop(progress: Progress) -> None:
        if progress.step in (3, 4):
            os.kill(os.getpid(), signal.SIGINT)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(SMALL, MadeUpSamples(), parts, QUICK, progress=stop, ranks=ALONE)
    train(SMALL, MadeUpSamples(), parts, QUICK, ranks=ALONE)
    assert losses(parts) == losses(whole)
    assert len(losses(whole)) == QUICK.steps
    ours, theirs = (load_network(find_model(str(out / "small.safetensors"))).state_dict() for out in (whole, parts))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_killed_at_any_moment_it_goes_on_from_the_last_checkpoint(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    settings = replace(QUICK, steps=40, save_every=1.0)
    train(SMALL, MadeUpSamples(), whole, settings, ranks=ALONE)
    out = tmp_path / "killed"
    program = (
        "import torch; torch.set_num_threads(1)\n"
        "from test_training import *\n"
        "def slowly(p): time.sleep(0.1)\n"
        f"train(SMALL, MadeUpSamples(), Path({str(out)!r}), replace(QUICK, steps=40, save_every=1.0), "
        "progress=slowly, ranks=ALONE)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=TEST)
    deadline = time.monotonic() + 120
    while not (out / CHECKPOINT).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.kill()
    process.wait()
    assert load_checkpoint(out / CHECKPOINT, SMALL, settings)["step"] < 40
    train(SMALL, MadeUpSamples(), out, settings, ranks=ALONE)
    assert losses(out) == losses(whole)


def test_frozen_parts_stay_and_others_learn(tmp_path: Path) -> None:
    first = train(SMALL, MadeUpSamples(), tmp_path / "first", QUICK, ranks=ALONE)
    settings = replace(QUICK, steps=4, seed=2)
    init = find_model(str(first))
    tuned = train(
        SMALL, MadeUpSamples(), tmp_path / "tuned", settings, init=init, freeze=["lidar_encoder"], ranks=ALONE
    )
    before, after = load_network(init).state_dict(), load_network(find_model(str(tuned))).state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not [name for name in changed if name.startswith("lidar_encoder")]
    assert [name for name in changed if name.startswith("image_encoder")]
    told = [json.loads(line) for line in (tmp_path / "tuned" / LOSSES).read_text().splitlines()]
    assert all("label" in line for line in told), "with weights to start from the decoder learns from the first step"


def test_what_does_not_fit_is_one_line(tmp_path: Path) -> None:
    train(SMALL, MadeUpSamples(), tmp_path, replace(QUICK, steps=2), ranks=ALONE)
    weights = find_model(str(tmp_path / "small.safetensors"))
    for config, settings, said in (
        (replace(SMALL, decoder_layers=1), QUICK, "another network.*decoder_layers"),
        (SMALL, replace(QUICK, learning_rate=1.0), "learning_rate 0.002 is now 1.0"),
    ):
        with pytest.raises(ConfigurationError, match=said) as error:
            train(config, MadeUpSamples(), tmp_path, settings, ranks=ALONE)
        assert "\n" not in str(error.value)
    train(SMALL, MadeUpSamples(), tmp_path, replace(QUICK, steps=3), ranks=ALONE)  # more steps are another matter
    with pytest.raises(ConfigurationError, match="do not fit"):
        train(replace(SMALL, decoder_layers=1), MadeUpSamples(), tmp_path / "x", QUICK, init=weights, ranks=ALONE)
    with pytest.raises(ConfigurationError, match="expected some of image_encoder"):
        train(SMALL, MadeUpSamples(), tmp_path / "x", QUICK, freeze=["wheels"], ranks=ALONE)
    (tmp_path / CHECKPOINT).write_bytes(b"not a checkpoint")
    with pytest.raises(ConfigurationError, match="expected a checkpoint") as error:
        train(SMALL, MadeUpSamples(), tmp_path, QUICK, ranks=ALONE)
    assert "\n" not in str(error.value)


def test_a_training_that_is_done_is_not_made_shorter(tmp_path: Path) -> None:
    train(SMALL, MadeUpSamples(), tmp_path, replace(QUICK, steps=4), ranks=ALONE)
    (tmp_path / "small.safetensors").unlink()
    file = train(SMALL, MadeUpSamples(), tmp_path, replace(QUICK, steps=2), ranks=ALONE)
    assert load_checkpoint(tmp_path / CHECKPOINT, SMALL, QUICK)["step"] == 4
    assert len(losses(tmp_path)) == 4
    assert find_model(str(file)).trained


def test_it_goes_on_whatever_became_of_its_log(tmp_path: Path) -> None:
    train(SMALL, MadeUpSamples(), tmp_path, replace(QUICK, steps=3), ranks=ALONE)
    whole = losses(tmp_path)
    with (tmp_path / LOSSES).open("a") as stream:
        stream.write('{"step": 3, "lo')
    train(SMALL, MadeUpSamples(), tmp_path, replace(QUICK, steps=4), ranks=ALONE)
    assert losses(tmp_path)[:3] == whole
    assert len(losses(tmp_path)) == 4
    (tmp_path / LOSSES).unlink()
    train(SMALL, MadeUpSamples(), tmp_path, replace(QUICK, steps=5), ranks=ALONE)
    assert len(losses(tmp_path)) == 1


def test_frozen_parts_are_those_that_it_began_with(tmp_path: Path) -> None:
    few = replace(QUICK, steps=1)
    train(SMALL, MadeUpSamples(), tmp_path, few, freeze=["heads"], ranks=ALONE)
    with pytest.raises(ConfigurationError, match=r"other frozen parts \(heads; now none\)"):
        train(SMALL, MadeUpSamples(), tmp_path, replace(QUICK, steps=2), ranks=ALONE)
    train(SMALL, MadeUpSamples(), tmp_path, replace(QUICK, steps=2), freeze=["heads"], ranks=ALONE)


@pytest.mark.parametrize("kind", ["loss", "gradient"])
def test_what_is_no_number_reaches_no_checkpoint(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(SMALL, MadeUpSamples(), tmp_path, replace(QUICK, steps=2), ranks=ALONE)
    before = (tmp_path / CHECKPOINT).read_bytes()
    right = Objective.forward

    def diverged(self: Objective, *arguments: object) -> tuple[Tensor, dict[str, Tensor]]:
        loss, parts = right(self, *arguments)  # type: ignore[arg-type]
        # The root of 0 is 0 and its slope is infinite.
        return loss + (0 * loss).sqrt() if kind == "gradient" else loss * torch.nan, dict(parts)

    monkeypatch.setattr(Objective, "forward", diverged)
    with pytest.raises(TrainingDiverged, match=f"the {kind} is .*in another folder") as error:
        train(SMALL, MadeUpSamples(), tmp_path, QUICK, ranks=ALONE)
    assert "step 2:" in str(error.value)
    assert (tmp_path / CHECKPOINT).read_bytes() == before


def test_batches_do_not_depend_on_where_a_training_begins() -> None:
    settings = BatchSettings(2, None, 1)
    whole = list(islice(iter(Batches(MadeUpSamples(), SMALL, settings)), 5))
    later = next(iter(Batches(MadeUpSamples(), SMALL, settings, first=3)))
    torch.testing.assert_close(later.canvas, whole[3].canvas, rtol=0, atol=0)


@pytest.mark.slow
def test_readers_take_turns_wherever_a_training_begins() -> None:
    settings = BatchSettings(2, None, 1)
    whole = list(islice(load(Batches(MadeUpSamples(), SMALL, settings), 2), 6))
    for first in (1, 4):
        later = next(load(Batches(MadeUpSamples(), SMALL, settings, first), 2))
        torch.testing.assert_close(later.canvas, whole[first].canvas, rtol=0, atol=0)


def test_batches_hold_no_more_cameras_than_there_are() -> None:
    frames = [made_up_frame(1), made_up_frame(2)]
    batch = make_batch(frames, NANO)
    assert batch.images.shape == (2, 1, 3, 128, 352)
    assert batch.targets.label.shape[0] == 2


class Numbers:
    """A data set whose frames tell their number."""

    name = format = "numbers"

    def __init__(self, count: int) -> None:
        self._frames = [replace(made_up_frame(k), weight=None) for k in range(count)]

    def __len__(self) -> int:
        return len(self._frames)

    def __getitem__(self, i: int) -> object:
        return self._frames[i]


def stamps(samples: object, reader: int, readers: int, first: int, count: int) -> list[int]:
    return [s.frame.sensors.stamp_ns for s in islice(samples.samples(reader, readers, first), count)]


def test_a_data_set_is_shared_out_whole_and_in_an_order_of_its_own_each_time() -> None:
    samples = DatasetSamples(Numbers(7), seed=4)
    both = [x for pair in zip(stamps(samples, 0, 2, 0, 7), stamps(samples, 1, 2, 0, 7), strict=True) for x in pair]
    assert sorted(both[:7]) == sorted(both[7:]) == list(range(7))
    assert both[:7] != both[7:]
    assert stamps(samples, 1, 2, 3, 4) == stamps(samples, 1, 2, 0, 7)[3:]
    with pytest.raises(ConfigurationError, match="no frames"):
        DatasetSamples(Numbers(0), 0)


def test_damaged_frames_are_left_out_with_a_line_and_the_rest_is_used(caplog: pytest.LogCaptureFixture) -> None:
    class Damaged(Numbers):
        name = "damaged"
        broken = (2,)

        def __getitem__(self, i: int) -> object:
            if i in self.broken:
                raise InvalidInput("frame 2", "an image", "nothing")
            return super().__getitem__(i)

    samples = DatasetSamples(Damaged(4), 0)
    seen = stamps(samples, 0, 1, 0, 12)
    assert set(seen) == {0, 1, 3}
    assert stamps(samples, 0, 1, 5, 7) == seen[5:], "a training that goes on sees what it would have seen"
    assert caplog.text.count("frame 2") == 1
    Damaged.broken = (0, 1, 2, 3)
    with pytest.raises(ConfigurationError, match="not one of its 4 frames"):
        stamps(DatasetSamples(Damaged(4), 0), 0, 1, 0, 1)


def test_mixed_sources_keep_their_shares_and_their_order() -> None:
    mixed = MixedSamples([DatasetSamples(Numbers(5), 1), DatasetSamples(Numbers(50), 2)], [3.0, 1.0], seed=0)
    whole = stamps(mixed, 0, 1, 0, 200)
    assert stamps(mixed, 0, 1, 120, 80) == whole[120:]
    of_the_small = np.mean([s < 5 for s in whole])
    assert 0.65 < of_the_small < 0.9


def test_the_source_of_a_sample_says_nothing_of_what_is_done_to_it() -> None:
    mixed = MixedSamples([DatasetSamples(Numbers(5), 1), DatasetSamples(Numbers(50), 2)], [3.0, 1.0], seed=0)
    small = np.array(stamps(mixed, 0, 1, 0, 400)) < 5
    # The first number that augmentation draws for each of them, see `Batches`.
    chance = np.array([np.random.default_rng([0, 0, number]).random() for number in range(400)])
    assert abs(chance[small].mean() - chance[~small].mean()) < 0.15


def test_frames_of_data_sets_are_made_what_a_detector_gets() -> None:
    frame = made_up_frame(3)
    lens = Distortion(DistortionModel.PLUMB_BOB, (-0.2, 0.05, 0.0, 0.0, 0.0))
    camera = replace(frame.sensors.cameras["front"], distortion=lens)
    numbers = Numbers(1)
    numbers._frames = [replace(frame, sensors=replace(frame.sensors, cameras={"front": camera}), sector=True)]
    got = next(DatasetSamples(numbers, 0).samples(0, 1, 0)).frame
    seen = got.sensors.cameras["front"]
    assert seen.distortion.model is DistortionModel.NONE
    assert (seen.image != camera.image).any()
    # Labels end with the camera's view: so does the sweep, and nothing beyond is taught to be empty.
    assert not got.sector
    x, y, _ = (got.sensors.lidar.points[:, :3] - seen.T_base_camera[:3, 3]).T
    assert 0 < len(x) < len(frame.sensors.lidar.points)
    assert (np.abs(np.arctan2(y, x)) < 1.0).all()
    assert got.points_inside.tolist() == got.labels.contains(got.sensors.lidar.points).sum(axis=1).tolist()
    make_batch([got], SMALL)


def test_training_never_sees_the_family_kept_apart() -> None:
    assert HELD_OUT_FAMILY not in TRAINING_FAMILIES
    assert len(TRAINING_FAMILIES) >= 6


def test_rigs_are_those_that_vehicles_have() -> None:
    rigs = [training_rig(np.random.default_rng(k)) for k in range(60)]
    assert {len(rig.cameras) for rig in rigs} == {0, 1, 3}
    assert len({rig.lidar.name for rig in rigs}) >= 6
    assert all(1.5 < rig.T_base_lidar[2, 3] < 2.2 for rig in rigs)


@pytest.mark.slow
def test_samples_of_the_world_do_not_depend_on_where_a_training_begins() -> None:
    samples = WorldSamples(WorldDrives(3, ("straight",), per_drive=3, spacing=0.2), echo=2, pool=4, head_start=2)
    whole = list(islice(samples.samples(1, 2, 0), 14))
    later = list(islice(samples.samples(1, 2, 11), 3))
    for ours, theirs in zip(whole[11:], later, strict=True):
        np.testing.assert_array_equal(ours.frame.sensors.lidar.points, theirs.frame.sensors.lidar.points)
        assert len(ours.bank) == len(theirs.bank)
    assert len({s.frame.sensors.lidar.points.tobytes() for s in whole}) >= 4


@pytest.mark.slow
def test_two_trainers_share_one_training(tmp_path: Path) -> None:
    program = tmp_path / "two.py"
    program.write_text(
        "import sys\nfrom pathlib import Path\n"
        f"sys.path.insert(0, {str(TEST)!r})\n"
        "from test_training import *\n"
        f"train(SMALL, MadeUpSamples(), Path({str(tmp_path)!r}) / 'out', QUICK)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", str(program)]
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert len(losses(tmp_path / "out")) == QUICK.steps

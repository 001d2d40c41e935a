"""What a proposer learns from: moments of drives, and the best of what was tried at each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.pipeline import PipelineSettings
from karp_perception.planning.learned.proposer import LearnedProposer
from karp_perception.planning.learned.tokens import SceneTokens, tokens_of, usual
from karp_perception.planning.learned.training.drives import Futures, training_case, watched_drive
from karp_perception.planning.learned.training.settings import ProposerTrainSettings
from karp_perception.planning.learned.training.teacher import Tries, candidates, perturbed, tried
from karp_perception.small_network.training.samples import KeptSamples, as_text

_MADE_FROM = (
    "seed", "duration", "every", "horizon", "kept", "temperature", "tries", "shift_noise", "change_noise",
)  # fmt: skip
_MADE_LATER_FROM = (*_MADE_FROM, "own_share")


@dataclass(frozen=True)
class Samples(KeptSamples):
    """N moments, and the J best tries at each.

    Attributes:
        ego, things, thing_known, pieces, stops, stop_known: see `tokens.SceneTokens`.
        speed: (N,) m/s. usual: (N, SECONDS) m/s², see `tokens.usual`.
        shifts: (N, J, 6) m. change: (N, J, SECONDS) m/s². kind: (N, J).
        weight: (N, J) what each counts, 1 together. gain: (N,) score of the best less that of the planner's own best.
    """

    ego: np.ndarray
    things: np.ndarray
    thing_known: np.ndarray
    pieces: np.ndarray
    stops: np.ndarray
    stop_known: np.ndarray
    speed: np.ndarray
    usual: np.ndarray
    shifts: np.ndarray
    change: np.ndarray
    kind: np.ndarray
    weight: np.ndarray
    gain: np.ndarray


def drive_samples(number: int, proposer: LearnedProposer | None, settings: ProposerTrainSettings) -> Samples | None:
    """The samples of the drive of that number, with a proposer's ideas or without; None where nothing came of it.

    Every moment is scored with the paths that everybody took in this drive; nothing is tried so late that less than
    half of what it leads to is known. With a proposer the planner's own score counts too: only what it lets through is
    driven.
    """
    pipeline = PipelineSettings()
    planner, vehicle, steps = pipeline.planner, pipeline.vehicle, round(settings.horizon / pipeline.planner.limits.step)
    record, moments = watched_drive(
        training_case(settings.seed, number, settings.duration), proposer, settings.every, pipeline
    )
    rng, futures = np.random.default_rng([settings.seed, number, 3]), Futures.of(record)
    found = []
    for tick, moment in moments:
        if len(record) - tick < 0.5 * steps:
            continue
        things = futures.things(tick, moment.ego.T_odom_base, steps, planner.limits.step)
        what, tokens = candidates(moment), tokens_of(moment)
        if proposer is not None:
            ideas = proposer.network.run(tokens)
            what += perturbed(ideas, moment, settings.tries, settings.shift_noise, settings.change_noise, rng)
        share = 0.0 if proposer is None else settings.own_share
        every = tried(moment, what, things, planner, vehicle, settings.horizon, share)
        if every.score.max() > 0.0:
            found.append(_sample(moment.speed, tokens, usual(moment), every, len(moment.options), settings))
    return Samples.concatenate(found) if found else None


def round_samples(
    folder: Path,
    numbers: range,
    proposer: LearnedProposer | None,
    settings: ProposerTrainSettings,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Samples:
    """The samples of drives, each kept in a file of `folder`: those that lie there already are not driven again."""
    folder.mkdir(parents=True, exist_ok=True)
    about = made_from(settings, proposer)
    parts = []
    for done, number in enumerate(numbers, 1):
        file = folder / f"{number:05d}.npz"
        samples = Samples.kept(file, about, partial(drive_samples, number, proposer, settings))
        if samples is not None:
            parts.append(samples)
        progress(done, len(numbers))
    if not parts:
        raise ConfigurationError(f"{folder}: nothing to learn from: expected drives that can be made, got none")
    return Samples.concatenate(parts)


def made_from(settings: ProposerTrainSettings, proposer: LearnedProposer | None) -> str:
    """What samples depend on, as text."""
    if proposer is None:
        return f"{as_text(settings, _MADE_FROM)}, proposer none"
    return f"{as_text(settings, _MADE_LATER_FROM)}, proposer {proposer.network.digest}"


def _sample(
    speed: float, tokens: SceneTokens, usually: np.ndarray, every: Tries, own: int, settings: ProposerTrainSettings
) -> Samples:
    best = every.best(settings.kept)
    weight = np.exp((best.score - best.score[0]) / settings.temperature)
    gain = best.score[0] - every.score[:own].max()
    samples = Samples(
        *tokens.columns(), np.array([speed]), usually[None], best.shifts[None], best.change[None], best.kind[None],
        (weight / weight.sum())[None], np.array([gain]),
    )  # fmt: skip
    return samples.with_floats(np.float32)

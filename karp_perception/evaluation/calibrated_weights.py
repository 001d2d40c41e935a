"""Weights whose scores and variances are put right: what an evaluation found to be off, worked in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core import ConfigurationError
from karp_perception.core.boxes import VARIANCE_OF
from karp_perception.detection.model.weights import ModelSource, find_model, load_network, read_metadata, save_weights
from karp_perception.evaluation.score_calibration import (
    Scaling,
    VarianceCalibration,
    fit_scaling,
    outcomes,
    variance_calibration,
)
from karp_perception.evaluation.scored_frames import ScoredFrame

if TYPE_CHECKING:
    from karp_perception.detection.model.detector_net import DetectorNet

_FEWEST_MATCHES = 50  # below, what is told of variances is chance
_FEWEST_DETECTIONS = 500


def trained_source(info: Mapping[str, Any]) -> ModelSource:
    """The weights of a detector with this `info`, to be calibrated. Raises ConfigurationError for untrained ones."""
    if info.get("weights") is None:
        raise ConfigurationError(f"calibration: expected trained weights; those of {info['model']} are drawn at random")
    return find_model(info["weights"])


def calibrate_weights(
    source: ModelSource, frames: Sequence[ScoredFrame], out: Path, about: str, *, scores: bool = True
) -> None:
    """Write the weights of a model so that its scores and variances on such frames mean what they say.

    Scores are scaled as Platt (1999) does it, each class by itself where there are enough of it. Standard deviations
    are multiplied by the factor under which the errors are likeliest. (One that makes the 68 % interval hold 68 % would
    be zero for speeds, as most of them are: a filter would then believe that everything stands.)

    Args:
        source: of the weights that detected; see `trained_source`.
        frames: on which they did, whatever their scores; neither trained on nor used to tell how good they are.
        out: weight file to write.
        about: the frames, for the file's metadata.
        scores: False leaves them: those of boxes that a refiner judged are not the network's.

    Raises ConfigurationError for a file that cannot be written, and for too few frames.
    """
    assert source.file is not None
    found = outcomes(frames)
    if len(found.score) < _FEWEST_DETECTIONS or not found.right.any():
        raise ConfigurationError(
            f"calibration: expected {_FEWEST_DETECTIONS} detections and some right ones, got {len(found.score)} and "
            f"{int(found.right.sum())}: take more frames"
        )
    scaling = fit_scaling(found, per_class=True, bias=True) if scores else None
    variances = variance_calibration(frames)
    net = load_network(source)
    apply_calibration(net, scaling, variances)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        save_weights(net, out, {**read_metadata(source.file), "calibrated": about})
    except OSError as error:
        raise ConfigurationError(f"{out}: cannot be written: {error}") from None


def apply_calibration(net: DetectorNet, scaling: Scaling | None, variances: Mapping[str, VarianceCalibration]) -> None:
    """Change what a DetectorNet says: logits / temperature + bias by class, log variances + 2 log factor."""
    import torch

    factor = [
        c.factor if c.count >= _FEWEST_MATCHES and c.factor > 0 else 1.0
        for c in (variances[name] for name in VARIANCE_OF)
    ]
    with torch.no_grad():
        if scaling is not None:
            temperature = torch.from_numpy(scaling.temperature).float()
            net.score_scale /= temperature
            net.score_bias.copy_(net.score_bias / temperature + torch.from_numpy(scaling.bias).float())
        net.heads.log_variance.bias += 2.0 * torch.from_numpy(np.log(factor)).float()

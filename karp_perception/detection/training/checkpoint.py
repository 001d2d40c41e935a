"""A training on disk: all that it needs to go on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from karp_perception.core import ConfigurationError
from karp_perception.detection.model.config import ModelConfig
from karp_perception.detection.training.settings import TrainSettings
from karp_perception.records import atomic_file

_VERSION = 1
# While a training goes on: what says how long it goes on, and what is written. (Learning rates depend on `steps`: those
# of the steps to come are those of the new number.)
_MAY_CHANGE = {"steps", "save_every", "log_every"}


def save_checkpoint(file: Path, config: ModelConfig, settings: TrainSettings, state: dict[str, Any]) -> None:
    """Write a checkpoint; the file that was there stays whole until the new one is complete."""
    content = {
        "version": _VERSION,
        "config": config.to_json(),
        "settings": json.dumps(dataclasses.asdict(settings)),
        **state,
    }
    with atomic_file(file, "wb") as stream:
        torch.save(content, stream)


def load_checkpoint(file: Path, config: ModelConfig, settings: TrainSettings) -> dict[str, Any]:
    """The state in a checkpoint.

    Raises ConfigurationError for a file that is none, that belongs to another network, or to a training with other
    settings: going on with those would be another training under the same name.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
        version, theirs = content["version"], ModelConfig.from_json(content["config"], str(file))
        before = json.loads(content["settings"])
    except ConfigurationError:
        raise
    except Exception as error:  # torch.load raises what the damage happens to be
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigurationError(
            f"{file}: expected a checkpoint of `karp train`, got something else ({reason}); remove it to start anew"
        ) from None
    if version != _VERSION:
        raise ConfigurationError(f"{file}: a checkpoint of version {version}, expected {_VERSION}; start anew")
    if theirs != config:
        changed = [f.name for f in dataclasses.fields(config) if getattr(config, f.name) != getattr(theirs, f.name)]
        raise ConfigurationError(
            f"{file}: a checkpoint of another network ({theirs.name!r}: {', '.join(changed)} differ); "
            "choose another folder, or take its weights with --init"
        )
    now = dataclasses.asdict(settings)
    changed = [name for name in now if name not in _MAY_CHANGE and before.get(name) != now[name]]
    if changed:
        differences = ", ".join(f"{name} {before.get(name)!r} is now {now[name]!r}" for name in changed)
        raise ConfigurationError(
            f"{file}: a training with other settings ({differences}); choose another folder, or take its weights "
            "with --init"
        )
    return content

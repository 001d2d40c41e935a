"""The exported graphs of a model, kept in the user's cache under a key that covers everything they are made from.

An entry is a folder `<key>/` with `network.onnx`, `position.onnx` and `manifest.json`, which holds their SHA-256. It
is written beside its place and moved there in one step: a half-written entry is never seen, and of two processes that
write at once one wins. An entry that does not match its manifest is set aside and made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from karp_perception.core import BackendUnavailable
from karp_perception.detection.model import weights
from karp_perception.detection.runtime.backend import select_backend
from karp_perception.detection.runtime.graph import (
    NETWORK_OUTPUTS,
    POSITION_OUTPUTS,
    Graph,
    network_inputs,
    position_inputs,
)

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from karp_perception.detection.model.detector_net import DetectorNet

_LOG = logging.getLogger(__name__)
_GRAPHS = ("network", "position")


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/karp_perception/onnx`, or below ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "karp_perception" / "onnx"


class Artefacts:
    """The graphs of one model. Nothing is read, built or imported before it is asked for."""

    def __init__(self, source: weights.ModelSource, cache: Path | None = None) -> None:
        self.source = source
        self.cache = cache or default_cache()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        config = source.config
        self.network = Graph(
            "network", network_inputs(config), NETWORK_OUTPUTS, partial(self._onnx, "network"), self._network_module,
            self._examples,
        )  # fmt: skip
        self.position = Graph(
            "position",
            position_inputs(config),
            POSITION_OUTPUTS,
            partial(self._onnx, "position"),
            self._position_module,
        )

    @cached_property
    def net(self) -> DetectorNet:
        """The torch network. Raises BackendUnavailable where torch is not installed."""
        try:
            return weights.load_network(self.source)
        except ImportError as error:
            raise BackendUnavailable(
                f"building the model needs torch and safetensors ({error}): "
                "pip install torch onnx onnxscript safetensors, or do without a network (model none)"
            ) from None

    @cached_property
    def key(self) -> str:
        """Hash of weights, configuration, exporter and the source files of the model."""
        here = Path(__file__).parent
        sources = sorted([*(here.parent / "model").glob("*.py"), here / "export.py", here / "graph.py"])
        parts = [self.source.digest, self.source.config.to_json(), _version("torch"), _version("onnxscript")]
        digest = hashlib.sha256("\n".join(parts).encode())
        for file in sources:
            digest.update(file.read_bytes())
        return f"{self.source.config.name}-{digest.hexdigest()[:24]}"

    def _network_module(self) -> nn.Module:
        from karp_perception.detection.runtime.export import NetworkGraph

        return NetworkGraph(self.net)

    def _position_module(self) -> nn.Module:
        return self.net.position

    def _examples(self) -> list[dict[str, np.ndarray]]:
        """Inputs of the network graph on made-up streets, of whole and of partial rigs."""
        from karp_perception.detection.preprocessing import network_arrays
        from karp_perception.detection.runtime.street import example_frames

        config = self.source.config
        position = select_backend("auto", self.position)
        examples = []
        for frame in example_frames(config.cameras, config.image_height / config.image_width):
            rig, inputs = network_arrays(frame, config)
            examples.append({**inputs, **position.run(rig.calibration)})
        return examples

    def _onnx(self, name: str, precision: str = "f32") -> Path:
        if precision != "f32":
            raise BackendUnavailable(f"the {name} graph comes in f32, not in {precision}")
        return self._entry / f"{name}.onnx"

    @cached_property
    def _entry(self) -> Path:
        entry = self.cache / self.key
        fault = _fault(entry)
        if fault is None:
            return entry
        if entry.exists():
            _LOG.warning("exported model %s: %s; it is set aside and made again", entry, fault)
            _remove(entry)
        try:
            return self._write(self.cache)
        except OSError as error:
            self._temporary = tempfile.TemporaryDirectory(prefix="karp_perception_")
            _LOG.warning("exported model cannot be kept in %s (%s): it is made again at every start", self.cache, error)
            return self._write(Path(self._temporary.name))

    def _write(self, cache: Path) -> Path:
        """Export into a folder beside the entry, then move it there."""
        cache.mkdir(parents=True, exist_ok=True)
        entry = cache / self.key
        draft = cache / f".{self.key}.{uuid.uuid4().hex}"
        draft.mkdir()
        try:
            self._export(draft)
            manifest = {f"{name}.onnx": _sha256(draft / f"{name}.onnx") for name in _GRAPHS}
            (draft / "manifest.json").write_text(json.dumps(manifest, indent=1))
            try:
                draft.rename(entry)
            except OSError:
                # Another process may have finished first; what it made is as good, if it is whole.
                if _fault(entry) is not None:
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return entry

    def _export(self, folder: Path) -> None:
        net = self.net
        _LOG.info("exporting model %s to ONNX (once, some seconds) into %s", self.source.config.name, self.cache)
        try:
            from karp_perception.detection.runtime.export import export

            for graph in (self.network, self.position):
                export(graph, folder / f"{graph.name}.onnx")
        except ImportError as error:
            raise BackendUnavailable(
                f"exporting {net.config.name} to ONNX needs {error.name}: pip install onnx onnxscript"
            ) from None
        except RuntimeError as error:  # the exporter's own errors are RuntimeErrors
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise BackendUnavailable(f"torch does not export {net.config.name} to ONNX: {reason}") from error


def _fault(entry: Path) -> str | None:
    """What is wrong with an entry, or None."""
    try:
        manifest = json.loads((entry / "manifest.json").read_text())
        for name in _GRAPHS:
            if _sha256(entry / f"{name}.onnx") != manifest[f"{name}.onnx"]:
                return f"{name}.onnx is not what the manifest says"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"cannot be read ({type(error).__name__}: {error})"
    return None


def _remove(entry: Path) -> None:
    aside = entry.with_name(f".{entry.name}.{uuid.uuid4().hex}")
    try:
        entry.rename(aside)
    except OSError as error:
        _LOG.warning("%s cannot be set aside: %s", entry, error)
        return
    shutil.rmtree(aside, ignore_errors=True)


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _version(package: str) -> str:
    try:
        return f"{package} {metadata.version(package)}"
    except metadata.PackageNotFoundError:
        return f"{package} absent"

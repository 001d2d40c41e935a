"""The exported graphs of a model, kept in the user's cache under a key that covers everything they are made from.

An entry is a folder `<key>/` with `network.onnx`, `position.onnx` and `references.npz`; one of another precision is
`<key>-<precision>/` with a `network.onnx` made from the first. Each has a `manifest.json` with the SHA-256 of its
files. It is written beside its place and moved there in one step: a half-written entry is never seen, and of two
processes that write at once one wins. An entry that does not match its manifest is set aside and made again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from karp_perception.core import BackendUnavailable, ConfigurationError
from karp_perception.core.long_work import LongWork
from karp_perception.core.resources import resource
from karp_perception.detection.model import weights
from karp_perception.detection.runtime.backend import Backend, BackendOptions, open_backend
from karp_perception.detection.runtime.graph import (
    NETWORK_OUTPUTS,
    POSITION_OUTPUTS,
    PRECISIONS,
    Graph,
    Reference,
    network_inputs,
    position_inputs,
)

if TYPE_CHECKING:
    import numpy as np
    import onnx
    from torch import nn

    from karp_perception.detection.model.detector_net import DetectorNet
    from karp_perception.detection.runtime.references import References

_LOG = logging.getLogger(__name__)
_NETWORK, _POSITION, _REFERENCES = "network.onnx", "position.onnx", "references.npz"
_SOURCES = (
    "calibration.py", "description.py", "export.py", "graph.py", "onnx_scopes.py", "quantized_graph.py",
    "references.py", "typed_graph.py",
)  # fmt: skip
_EMBEDDED_BY = ("openvino", "onnxruntime", "torch")  # on a CPU in f32: nothing to build, and exact


def default_cache() -> Path:
    """`$XDG_CACHE_HOME/karp_perception/onnx`, or below ~/.cache."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "karp_perception" / "onnx"


class Artefacts:
    """The graphs of one model. Nothing is read, built or imported before it is asked for.

    Args:
        source: of the model.
        cache: folder for what is exported; the user's cache by default.
        batch: frames that the graphs take at once.
        dynamic_batch: the files take any number of frames; the graphs, as backends see them, `batch`.
    """

    def __init__(
        self, source: weights.ModelSource, cache: Path | None = None, *, batch: int = 1, dynamic_batch: bool = False
    ) -> None:
        self.source = source
        self.cache = cache or default_cache()
        self.batch, self.dynamic_batch = batch, dynamic_batch
        self._entries: dict[str, Path] = {}
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        config = source.config
        self.network = Graph(
            "network", network_inputs(config, batch), NETWORK_OUTPUTS, partial(self._onnx, _NETWORK),
            self._network_module, self._network_references,
        )  # fmt: skip
        self.position = Graph(
            "position", position_inputs(config, batch), POSITION_OUTPUTS, partial(self._onnx, _POSITION),
            self._position_module, self._position_references,
        )  # fmt: skip

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
        """Hash of weights, configuration, batch, exporter, reference frames and the sources of all that is made."""
        from karp_perception.detection.runtime.reference_frames import reference_frames_file

        here = Path(__file__).parent
        files = [*sorted((here.parent / "model").glob("*.py")), *(here / name for name in _SOURCES)]
        parts = [self.source.digest, self.source.config.to_json(), f"{self.batch} {self.dynamic_batch}"]
        parts += [_version(package) for package in ("torch", "onnxscript")]
        digest = hashlib.sha256("\n".join(parts).encode())
        for file in [*files, reference_frames_file()]:
            digest.update(file.read_bytes())
        return f"{self.source.config.name}-{digest.hexdigest()[:24]}"

    @property
    def references(self) -> References:
        """What the reference says of frames of the world."""
        from karp_perception.detection.runtime.references import References

        return References.load(self._entry("f32") / _REFERENCES)

    @property
    def references_file(self) -> Path:
        """The file that holds them."""
        return self._entry("f32") / _REFERENCES

    def _network_module(self) -> nn.Module:
        from karp_perception.detection.runtime.export import NetworkGraph

        return NetworkGraph(self.net)

    def _position_module(self) -> nn.Module:
        return self.net.position

    def _network_references(self) -> Iterator[Reference]:
        return self.references.of_network(self.embed, self.batch)

    def _position_references(self) -> list[Reference]:
        return self.references.of_position(self.batch)

    def embed(self, calibration: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Position embeddings of a calibration: batches of one, whatever batch the graphs have."""
        outputs = self._embedding.run({name: values.repeat(self.batch, axis=0) for name, values in calibration.items()})
        return {name: values[:1] for name, values in outputs.items()}

    @cached_property
    def _embedding(self) -> Backend:
        reasons = []
        for name in _EMBEDDED_BY:
            try:
                return open_backend(name, self.position, BackendOptions())
            except BackendUnavailable as error:
                reasons.append(f"{name}: {error}")
        raise BackendUnavailable("nothing here computes positions; " + "; ".join(reasons))

    def _onnx(self, name: str, precision: str = "f32") -> Path:
        if precision not in PRECISIONS:
            raise BackendUnavailable(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision!r}")
        if name == _POSITION and precision != "f32":
            raise BackendUnavailable(f"positions are metres: they are computed in f32, not in {precision}")
        return self._entry(precision) / name

    def _entry(self, precision: str) -> Path:
        """The folder of a precision, made where there is none that is whole."""
        if precision not in self._entries:
            self._entries[precision] = self._found(precision)
        return self._entries[precision]

    def _found(self, precision: str) -> Path:
        entry = self.cache / self._folder(precision)
        fault = _fault(entry, _files(precision))
        if fault is None:
            return entry
        if entry.exists():
            _LOG.warning("exported model %s: %s; it is set aside and made again", entry, fault)
            _remove(entry)
        if self._temporary is None:
            try:
                return self._write(self.cache, precision)
            except OSError as error:
                self._temporary = tempfile.TemporaryDirectory(prefix="karp_perception_")
                _LOG.warning(
                    "exported model cannot be kept in %s (%s): it is made again at every start", self.cache, error
                )
        return self._write(Path(self._temporary.name), precision)

    def _folder(self, precision: str) -> str:
        return self.key if precision == "f32" else f"{self.key}-{precision}"

    def _write(self, cache: Path, precision: str) -> Path:
        """Make the files in a folder beside the entry, then move it there."""
        cache.mkdir(parents=True, exist_ok=True)
        folder, files = self._folder(precision), _files(precision)
        entry = cache / folder
        draft = cache / f".{folder}.{uuid.uuid4().hex}"
        draft.mkdir()
        try:
            name = self.source.config.name
            with LongWork(f"exporting {name} to ONNX" if precision == "f32" else f"writing {name} in {precision}"):
                if precision == "f32":
                    self._export(draft)
                else:
                    self._retype(draft, precision)
            manifest = {name: _sha256(draft / name) for name in files}
            (draft / "manifest.json").write_text(json.dumps(manifest, indent=1))
            try:
                draft.rename(entry)
            except OSError:
                # Another process may have finished first; what it made is as good, if it is whole.
                if _fault(entry, files) is not None:
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return entry

    def _export(self, folder: Path) -> None:
        net = self.net
        try:
            import onnx

            from karp_perception.detection.runtime.description import describe
            from karp_perception.detection.runtime.export import export

            for graph in (self.network, self.position):
                model = export(graph, dynamic_batch=self.dynamic_batch)
                describe(model, self.source, graph.name, "f32")
                onnx.save(model, folder / f"{graph.name}.onnx")
        except ImportError as error:
            raise BackendUnavailable(
                f"exporting {net.config.name} to ONNX needs {error.name}: pip install onnx onnxscript"
            ) from None
        except RuntimeError as error:  # the exporter's own errors are RuntimeErrors
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise BackendUnavailable(f"torch does not export {net.config.name} to ONNX: {reason}") from error
        self._write_references(folder / _REFERENCES)

    def _write_references(self, file: Path) -> None:
        """References that came with the model, if they are of these weights and frames, else new ones."""
        from karp_perception.detection.runtime.reference_frames import reference_frames, reference_frames_file
        from karp_perception.detection.runtime.references import References, make_references

        config = self.source.config
        identity = {
            "model": config.name,
            "weights": self.source.digest,
            "config": config.to_json(),
            "frames": _sha256(reference_frames_file()),
        }
        try:
            shipped = resource("models", config.name, _REFERENCES)
        except ConfigurationError:
            shipped = None
        if shipped is not None and {k: References.load(shipped).about.get(k) for k in identity} == identity:
            shutil.copyfile(shipped, file)
            return
        about = {**identity, "made_by": [_version("torch"), _version("karp_perception")]}
        make_references(self.net, reference_frames(), about, config).save(file)

    def _retype(self, folder: Path, precision: str) -> None:
        """The network in another precision, from its f32 file."""
        file = self._onnx(_NETWORK)
        try:
            import onnx

            from karp_perception.detection.runtime.description import describe
            from karp_perception.detection.runtime.operators import require_standard
            from karp_perception.detection.runtime.typed_graph import HALF_TYPES, typed_graph

            model = onnx.load(file)
            if precision in HALF_TYPES:
                model = typed_graph(model, HALF_TYPES[precision])
            else:
                model = self._quantized(model, precision)
            require_standard(model)
            describe(model, self.source, "network", precision)
            onnx.checker.check_model(model, full_check=True)
            onnx.save(model, folder / _NETWORK)
        except ImportError as error:
            raise BackendUnavailable(
                f"writing {self.source.config.name} in {precision} needs {error.name}: pip install onnx onnxruntime"
            ) from None

    def _quantized(self, model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
        from karp_perception.detection.runtime.calibration import activation_ranges
        from karp_perception.detection.runtime.quantized_graph import EIGHT_BITS, quantized_graph

        eight = EIGHT_BITS[precision]
        return quantized_graph(model, eight, activation_ranges(model, eight, self._calibration_inputs()))

    def _calibration_inputs(self) -> list[dict[str, np.ndarray]]:
        from karp_perception.detection.preprocessing import network_arrays
        from karp_perception.detection.runtime.reference_frames import calibration_frames
        from karp_perception.detection.runtime.references import stacked

        arrays = (network_arrays(frame, self.source.config) for frame in calibration_frames())
        return [stacked([{**inputs, **self.embed(rig.calibration)}] * self.batch) for rig, inputs in arrays]


def _files(precision: str) -> tuple[str, ...]:
    return (_NETWORK, _POSITION, _REFERENCES) if precision == "f32" else (_NETWORK,)


def _fault(entry: Path, files: Iterable[str]) -> str | None:
    """What is wrong with an entry, or None."""
    try:
        manifest = json.loads((entry / "manifest.json").read_text())
        for name in files:
            if _sha256(entry / name) != manifest[name]:
                return f"{name} is not what the manifest says"
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

"""`karp export`: a model's graphs in a folder, one file for each precision, with references beside them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from karp_perception.core import BackendUnavailable, ConfigurationError
from karp_perception.detection.model.weights import find_model
from karp_perception.detection.runtime import onnxruntime
from karp_perception.detection.runtime.artefacts import Artefacts
from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.runtime.comparison import measure_parity
from karp_perception.detection.runtime.graph import PRECISIONS, network_inputs
from karp_perception.detection.runtime.parity import limits_of
from karp_perception.records import atomic_file, write_json

MANIFEST = "export.json"
DYNAMIC = "dynamic"


@dataclass(frozen=True)
class ExportedFile:
    """One file of the folder.

    Attributes:
        file: where it is.
        kept: whether it was there already, with the same content.
    """

    file: Path
    kept: bool


def export_folder(
    model: str,
    out: Path,
    precisions: Sequence[str] = ("f32",),
    batch: str = "1",
    *,
    cache: Path | None = None,
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> list[ExportedFile]:
    """Write `network.<precision>.onnx`, `position.onnx`, `references.npz` and `export.json`.

    What is there already with the same content is kept; every file comes to its place in one step. What was made is
    kept in the cache as well, so that an export that was broken off goes on where it was.

    Args:
        model: shipped name or weight file.
        out: folder; made where missing.
        precisions: of PRECISIONS; "all" for all of them.
        batch: frames at once, or "dynamic".
        cache: folder for what is exported; the user's cache by default.
        progress: called with the share that is done, and what is done next.

    Raises ConfigurationError for a model, precision or batch that does not exist, BackendUnavailable where the exporter
    is missing or fails.
    """
    chosen = tuple(PRECISIONS) if "all" in precisions else tuple(dict.fromkeys(precisions))
    unknown = [precision for precision in chosen if precision not in PRECISIONS]
    if unknown or not chosen:
        raise ConfigurationError(f"precision: expected {', '.join(PRECISIONS)} or all, got {', '.join(unknown)}")
    source = find_model(model)
    dynamic = batch == DYNAMIC
    if not dynamic and not (batch.isascii() and batch.isdecimal() and int(batch) >= 1):
        raise ConfigurationError(f"batch: expected a number of frames from 1 on, or {DYNAMIC}, got {batch!r}")
    artefacts = Artefacts(source, cache, batch=1 if dynamic else int(batch), dynamic_batch=dynamic)
    out.mkdir(parents=True, exist_ok=True)
    wanted: list[tuple[str, Callable[[], Path]]] = [
        ("position.onnx", artefacts.position.onnx),
        ("references.npz", lambda: artefacts.references_file),
    ]
    wanted += [(f"network.{precision}.onnx", partial(artefacts.network.onnx, precision)) for precision in chosen]
    files = []
    for number, (name, make) in enumerate(wanted):
        progress(number / (len(wanted) + 1), name)
        files.append(_placed(make(), out / name))
    if dynamic:
        progress(len(wanted) / (len(wanted) + 1), "comparing batches of one and two")
        _require_equal_batches(artefacts)
    digests = {placed.file.name: _sha256(placed.file) for placed in files}
    about = {"model": source.config.name, "weights": source.digest, "batch": batch, "sha256": digests}
    write_json(out / MANIFEST, about)
    progress(1.0, "done")
    return files


def _placed(made: Path, place: Path) -> ExportedFile:
    content = made.read_bytes()
    if place.is_file() and place.read_bytes() == content:
        return ExportedFile(place, kept=True)
    with atomic_file(place, "wb") as stream:
        stream.write(content)
    return ExportedFile(place, kept=False)


def _require_equal_batches(artefacts: Artefacts) -> None:
    """Raises BackendUnavailable where a file with a dynamic batch says of two frames other than of each."""
    for batch in (1, 2):
        graph = replace(artefacts.network, inputs=network_inputs(artefacts.source.config, batch))
        engine = onnxruntime.open_backend(graph, BackendOptions())
        references = artefacts.references.of_network(artefacts.embed, batch)
        parity = measure_parity(engine, references, limits_of(engine.precision))
        if not parity.passed:
            raise BackendUnavailable(f"the file with a dynamic batch is wrong for a batch of {batch}: {parity}")


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()

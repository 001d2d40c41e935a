"""An ONNX file of somebody else's: what goes in and comes out, and the same network with all fixed that was open.

Backends here take float32 of static shapes. So sizes that the file leaves open are set, inputs that only say how large
the image was become constants, an image input of another type gets a cast, and outputs that nobody reads are dropped.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from karp_perception.core import BackendUnavailable, ConfigurationError

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

_LOG = logging.getLogger(__name__)
_FLOATS = ("float32", "float16", "float64")


@dataclass(frozen=True)
class Tensor:
    """An input or output: name, shape with None for what is open, and numpy's name of the type."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str

    @property
    def is_float(self) -> bool:
        """Whether it holds floating point numbers."""
        return self.dtype in _FLOATS

    def __str__(self) -> str:
        return f"{self.name} {self.dtype} ({', '.join('?' if n is None else str(n) for n in self.shape)})"


class OnnxFile:
    """A file, read once. Raises ConfigurationError for one that is no ONNX, BackendUnavailable without `onnx`."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._model = _load(file)
        weights = {initializer.name for initializer in self._model.graph.initializer}
        self.inputs = [_tensor(value) for value in self._model.graph.input if value.name not in weights]
        self.metadata: dict[str, str] = {entry.key: entry.value for entry in self._model.metadata_props}

    def fixed(self, shapes: Mapping[str, tuple[int, ...]], constants: Mapping[str, np.ndarray]) -> FixedModel:
        """The network with these shapes of inputs (all of them but the constants), and constants for others.

        Raises ConfigurationError where the network does not allow these shapes.
        """
        import onnx
        from onnx import numpy_helper

        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        graph = model.graph
        types = {tensor.name: tensor.dtype for tensor in self.inputs}
        left = [value for value in graph.input if value.name not in constants]
        del graph.input[:]
        graph.input.extend(left)
        for name, array in constants.items():
            graph.initializer.append(numpy_helper.from_array(np.asarray(array, types[name]), name))
        for value in graph.input:
            if value.name in shapes:
                _set_shape(value, shapes[value.name])
        for value in graph.output:
            _open(value)
        del graph.value_info[:]
        try:
            inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ConfigurationError(f"{self.file}: does not take inputs of {dict(shapes)}: {reason}") from None
        return FixedModel(self.file, inferred)


class FixedModel:
    """A network of static input shapes."""

    def __init__(self, file: Path, model: ModelProto) -> None:
        self.file = file
        self._model = model
        self.outputs = [_tensor(value) for value in model.graph.output]

    def serialized(self, outputs: Sequence[str]) -> bytes:
        """ONNX with float32 inputs, and these outputs alone, in this order."""
        graph = self._model.graph
        by_name = {value.name: value for value in graph.output}
        del graph.output[:]
        graph.output.extend(by_name[name] for name in outputs)
        _cast_inputs(self._model)
        return self._model.SerializeToString(deterministic=True)


class PreparedFile:
    """The bytes of a network as a file in a folder, named by their content, written when it is asked for."""

    def __init__(self, content: bytes, stem: str, folder: Path) -> None:
        self.digest = hashlib.sha256(content).hexdigest()
        self._content, self._stem, self._folder = content, stem, folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None

    @cached_property
    def path(self) -> Path:
        """The file, whole."""
        try:
            return self._written(self._folder)
        except OSError as error:
            self._temporary = tempfile.TemporaryDirectory(prefix="karp_perception_")
            _LOG.warning(
                "%s cannot be kept in %s (%s): it is made again at every start", self._stem, self._folder, error
            )
            return self._written(Path(self._temporary.name))

    def _written(self, folder: Path) -> Path:
        target = folder / f"{self._stem}-{self.digest[:24]}" / "network.onnx"
        if target.is_file() and target.read_bytes() == self._content:
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{uuid.uuid4().hex}.onnx")
        try:
            draft.write_bytes(self._content)
            os.replace(draft, target)
        finally:
            draft.unlink(missing_ok=True)
        return target


def _load(file: Path) -> ModelProto:
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise BackendUnavailable(f"a model of one's own needs onnx ({error}): pip install onnx") from None
    try:
        model = onnx.load(file)
        onnx.checker.check_model(model)
    except (OSError, DecodeError, onnx.checker.ValidationError, ValueError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigurationError(f"{file}: expected an ONNX model, and it cannot be read as one: {reason}") from None
    return model


def _tensor(value: ValueInfoProto) -> Tensor:
    from onnx import helper

    kind = value.type.tensor_type
    shape = tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in kind.shape.dim)
    return Tensor(value.name, shape, helper.tensor_dtype_to_np_dtype(kind.elem_type).name)


def _open(value: ValueInfoProto) -> None:
    """Forget the batch of an output, and names of lengths: what follows from the inputs is inferred."""
    for place, dimension in enumerate(value.type.tensor_type.shape.dim):
        if place == 0 or dimension.dim_param:
            dimension.Clear()


def _set_shape(value: ValueInfoProto, shape: tuple[int, ...]) -> None:
    dimensions = value.type.tensor_type.shape
    del dimensions.dim[:]
    for length in shape:
        dimensions.dim.add().dim_value = length


def _cast_inputs(model: ModelProto) -> None:
    """Inputs of other types become float32, with a cast behind them that takes over their name."""
    from onnx import TensorProto, helper

    casts = []
    for value in model.graph.input:
        kind = value.type.tensor_type.elem_type
        if kind != TensorProto.FLOAT:
            inner, value.name = value.name, f"{value.name}_f32"
            casts.append(helper.make_node("Cast", [value.name], [inner], to=kind))
            value.type.tensor_type.elem_type = TensorProto.FLOAT
    nodes = [*casts, *model.graph.node]
    if casts:
        del model.graph.node[:]
        model.graph.node.extend(nodes)

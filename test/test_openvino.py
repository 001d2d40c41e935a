"""Attention as OpenVINO computes it best gives the same numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import openvino
import pytest
import torch
from torch import nn

from karp_perception.detection.model.block import Block
from karp_perception.detection.runtime.openvino import _core, leave_keys_untransposed


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers of attention, one of them to other tokens, as ONNX."""

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = Block(32, 4, 2), Block(32, 4, 2)

        def forward(self, x: torch.Tensor, memory: torch.Tensor) -> torch.Tensor:
            x, _ = self.first(x)
            return self.second(x, memory=memory)[0]

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("onnx") / "two.onnx"
    example = (torch.ones(1, 24, 32), torch.ones(1, 40, 32))
    torch.onnx.export(Two().eval(), example, str(file), opset_version=18, dynamo=True, external_data=False)
    return file


def answers(model: openvino.Model, precision: str) -> np.ndarray:
    rng = np.random.default_rng(1)
    inputs = [rng.normal(size=tuple(given.shape)).astype(np.float32) for given in model.inputs]
    compiled = _core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return compiled(inputs)[0]


@pytest.mark.parametrize("precision", ["f32", "bf16"])
def test_keys_that_stay_as_they_are_change_no_bit(file: Path, precision: str) -> None:
    core = _core()
    plain, changed = core.read_model(str(file)), core.read_model(str(file))
    assert leave_keys_untransposed(changed) == 2
    np.testing.assert_array_equal(answers(changed, precision), answers(plain, precision))


def test_what_is_no_attention_stays(file: Path) -> None:
    model = _core().read_model(str(file))
    before = [node.get_type_name() for node in model.get_ordered_ops()]
    leave_keys_untransposed(model)
    assert leave_keys_untransposed(model) == 0
    assert sorted(node.get_type_name() for node in model.get_ordered_ops()) == sorted(before)

"""ONNX files of the DETR line as their users have them: real architectures of `transformers`, small, random weights."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="exports networks with torch")
transformers = pytest.importorskip("transformers", reason="its architectures are exported")

SIDE = 64  # px
QUERIES = 20


@dataclass(frozen=True)
class Exported:
    """A network of transformers and its ONNX file."""

    file: Path
    model: Any

    def outputs(self, pixels: np.ndarray) -> Any:
        """What transformers' model says of (B, 3, H, W)."""
        with torch.inference_mode():
            return self.model(pixel_values=torch.from_numpy(pixels))


def _rt_detr(config: type, **more: Any) -> Any:
    backbone = transformers.RTDetrResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 64, 64], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    return config(
        backbone_config=backbone, encoder_in_channels=[32, 64, 64], encoder_hidden_dim=32, encoder_ffn_dim=64,
        encoder_attention_heads=2, d_model=32, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=64,
        decoder_attention_heads=2, decoder_layers=2, num_queries=QUERIES, num_denoising=0, num_labels=80, **more,
    )  # fmt: skip


def _d_fine() -> Any:
    backbone = transformers.HGNetV2Config(
        stem_channels=[3, 8, 16],
        hidden_sizes=[16, 32, 32, 64],
        stage_in_channels=[16, 16, 32, 32],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[16, 32, 32, 64],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        stage_light_block=[False, False, True, True],
        stage_downsample=[False, True, True, True],
        stage_kernel_size=[3, 3, 5, 5],
        out_features=["stage2", "stage3", "stage4"],
        use_learnable_affine_block=True,
    )
    return transformers.DFineConfig(
        backbone_config=backbone, encoder_in_channels=[32, 32, 64], encoder_hidden_dim=32, encoder_ffn_dim=64,
        encoder_attention_heads=2, d_model=32, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=64,
        decoder_attention_heads=2, decoder_layers=2, num_queries=QUERIES, num_denoising=0, num_labels=80,
    )  # fmt: skip


def _detr() -> Any:
    backbone = transformers.ResNetConfig(
        embedding_size=16, hidden_sizes=[16, 32, 32, 64], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage4"],
    )  # fmt: skip
    return transformers.DetrConfig(
        backbone_config=backbone, use_timm_backbone=False, d_model=32, encoder_layers=1, decoder_layers=1,
        encoder_attention_heads=2, decoder_attention_heads=2, encoder_ffn_dim=64, decoder_ffn_dim=64,
        num_queries=QUERIES, num_labels=91,
    )  # fmt: skip


def _rf_detr() -> Any:
    backbone = transformers.RfDetrDinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=SIDE, patch_size=8, num_windows=2,
        out_features=["stage1", "stage2"],
    )  # fmt: skip
    return transformers.RfDetrConfig(
        backbone_config=backbone, image_size=SIDE, d_model=32, decoder_layers=1, decoder_self_attention_heads=2,
        decoder_cross_attention_heads=2, decoder_ffn_dim=64, num_queries=QUERIES, num_labels=91, hidden_expansion=0.5,
    )  # fmt: skip


_NETWORKS = {
    "rt_detr": ("RTDetrForObjectDetection", lambda: _rt_detr(transformers.RTDetrConfig)),
    "rt_detr_v2": ("RTDetrV2ForObjectDetection", lambda: _rt_detr(transformers.RTDetrV2Config)),
    "d_fine": ("DFineForObjectDetection", _d_fine),
    "rf_detr": ("RfDetrForObjectDetection", _rf_detr),
    "detr": ("DetrForObjectDetection", _detr),
}


@cache
def model(kind: str) -> Any:
    """A network with random weights under which images differ, and scores too: no two of them nearly the same."""
    name, config = _NETWORKS[kind]
    torch.manual_seed(0)
    made = getattr(transformers, name)(config()).eval()
    with torch.no_grad():
        for path, module in made.named_modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
            elif ("class_" in path or "score_head" in path) and isinstance(module, torch.nn.Linear):
                module.weight.normal_(0.0, 0.35)
                module.bias.normal_(-3.0, 0.7)
            elif isinstance(module, torch.nn.Linear) and "bbox" not in path and "sampling_offsets" not in path:
                torch.nn.init.xavier_normal_(module.weight, 1.5)
    return made


class _Tuple(torch.nn.Module):
    """Outputs as a tuple, as exports have them."""

    def __init__(self, inner: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.inner, self.names = inner, names

    def forward(self, pixel_values: Any) -> tuple[Any, ...]:
        out = self.inner(pixel_values=pixel_values)
        return tuple(out[name] for name in self.names)


def export(
    module: Any, file: Path, names: tuple[list[str], list[str]], arguments: tuple[Any, ...], dynamic: Any = None
) -> None:
    """The exporter that takes these networks; see what `optimum` does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(), arguments, str(file), input_names=names[0], output_names=names[1], opset_version=17,
            dynamo=False, dynamic_axes=dynamic,
        )  # fmt: skip


def exported(kind: str, folder: Path, *, dynamic: bool = False, side: int = SIDE) -> Exported:
    """As transformers' users export: pixel_values -> logits, pred_boxes; RF-DETR with the names of its own exporter."""
    file = folder / f"{kind}{'_dynamic' if dynamic else ''}.onnx"
    names = (["input"], ["dets", "labels"]) if kind == "rf_detr" else (["pixel_values"], ["logits", "pred_boxes"])
    fields = ("pred_boxes", "logits") if kind == "rf_detr" else ("logits", "pred_boxes")
    axes = {names[0][0]: {0: "batch"}, **{name: {0: "batch"} for name in names[1]}} if dynamic else None
    made = model(kind)
    for module in made.modules():
        # Positions are the same for every image of one size: RF-DETR's own exporter takes them out as well.
        if hasattr(module, "interpolate_pos_encoding"):
            module.interpolate_pos_encoding = lambda *_, module=module: module.position_embeddings
    export(_Tuple(made, fields), file, names, (torch.rand(2 if dynamic else 1, 3, side, side),), axes)
    return Exported(file, made)

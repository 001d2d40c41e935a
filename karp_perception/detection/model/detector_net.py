"""The transformer detector: tokens of cameras and lidar, queries that attend to them, one box for each query.

    images ──> ImageEncoder ──┐ tokens
                              ├──────────> decoder: queries x tokens ──> heads: class, box, variance
    canvas ──> LidarEncoder ──┤                 ^
                              └─> heatmap ──> top-k candidates, beside the learned queries

Dense attention over all tokens, as in CMT (Yan et al., 2023); candidates from a heatmap as in TransFusion (Bai et
al., 2022). What a sensor did not deliver is masked, so one set of weights serves every subset. No NMS: every query
stands for one object, or for none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from karp_perception.detection.model.block import MASKED, Block
from karp_perception.detection.model.config import CLASSES, ModelConfig
from karp_perception.detection.model.image_encoder import ImageEncoder
from karp_perception.detection.model.lidar_encoder import LidarEncoder
from karp_perception.detection.model.position import PositionEmbedding

_VEHICLE_CLASSES = 5  # the first five classes are larger than a token: of neighbouring candidates only the peak counts
_PEAK_SHARPNESS = 20.0
_PRIOR = 0.01  # share of queries that are an object at the start of training (focal loss, Lin et al., 2017)
_FIRST_SIZE_M = (3.0, 1.5, 1.6)  # length, width, height that an untrained head says


@dataclass
class Prediction:
    """What the heads say of N queries, learned ones first, then candidates.

    Attributes:
        logits: (B, N, 10) of each class.
        center: (B, N, 3) m, `base_link`.
        log_size: (B, N, 3) log of length, width, height in m.
        direction: (B, N, 2) sine and cosine of yaw, not normalised.
        velocity: (B, N, 2) m/s over ground, along x and y of `base_link`.
        log_variance: (B, N, 9) of x, y, z (m), log length, log width, log height, yaw (rad), vx, vy (m/s).
    """

    logits: Tensor
    center: Tensor
    log_size: Tensor
    direction: Tensor
    velocity: Tensor
    log_variance: Tensor


@dataclass
class Tokens:
    """What queries attend to, and who the candidates are.

    Attributes:
        memory: (B, M, D) tokens: all cameras', then the lidar's.
        position: (B, M, D) their embeddings.
        mask: (B, 1, 1, M) 0, or `MASKED` for tokens of a missing sensor.
        heatmap: (B, L, 10) logits: is the centre of an object of that class on this lidar token.
        candidates: (B, K) indices of the lidar tokens that became queries.
    """

    memory: Tensor
    position: Tensor
    mask: Tensor
    heatmap: Tensor
    candidates: Tensor


class DecoderLayer(nn.Module):
    """Queries attend to each other, then to the tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.among_queries = Block(config.width, config.heads, config.mlp_ratio)
        self.to_tokens = Block(config.width, config.heads, config.mlp_ratio)

    def forward(self, queries: Tensor, position: Tensor, tokens: Tensor, token_position: Tensor, query_mask: Tensor,
                token_mask: Tensor) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        """Queries (B, N, D) with positions (B, N, D) over tokens (B, M, D) -> (B, N, D), weights (B, heads, N, M).

        `query_mask` is broadcastable to (B, heads, N, N), so that training can hide groups of queries from each other.
        """
        queries, _ = self.among_queries(queries, position, mask=query_mask)
        return self.to_tokens(queries, position, tokens, token_position, token_mask)


class Heads(nn.Module):
    """Query features to boxes."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.offset_scale_m = config.offset_scale_m
        self.norm = nn.LayerNorm(config.width)
        self.shared = nn.Sequential(nn.Linear(config.width, config.width), nn.GELU())
        self.logits = nn.Linear(config.width, CLASSES)
        self.box = nn.Linear(config.width, 3 + 3 + 2 + 2)
        self.log_variance = nn.Linear(config.width, 9)

    def forward(self, queries: Tensor, reference: Tensor) -> Prediction:
        """(B, N, D) and their reference points (B, N, 3) m -> Prediction."""
        features = self.shared(self.norm(queries))
        offset, log_size, direction, velocity = self.box(features).split([3, 3, 2, 2], dim=-1)
        center = reference + self.offset_scale_m * offset
        return Prediction(self.logits(features), center, log_size, direction, velocity, self.log_variance(features))


class DetectorNet(nn.Module):
    """The network. `forward` is what is exported; training uses its parts: `encode`, `queries`, `decode`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.position = PositionEmbedding(config)
        self.image_encoder = ImageEncoder(config)
        self.lidar_encoder = LidarEncoder(config)
        self.heatmap = nn.Linear(config.width, CLASSES)
        self.learned = nn.Parameter(torch.zeros(config.learned_queries, config.width))
        self.candidate = nn.Linear(config.width, config.width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.heads = Heads(config)

    def forward(self, images: Tensor, camera_present: Tensor, canvas: Tensor, lidar_present: Tensor,
                image_position: Tensor, lidar_position: Tensor, reference_position: Tensor) -> Prediction:  # fmt: skip
        """Boxes of a batch.

        Args:
            images: (B, C, 3, H, W) normalised; anything finite in a missing camera's place.
            camera_present: (B, C) 1 or 0.
            canvas: (B, channels, X, Y); anything finite where there is no lidar.
            lidar_present: (B, 1) 1 or 0.
            image_position, lidar_position, reference_position: see `PositionEmbedding.forward`.
        """
        tokens = self.encode(images, camera_present, canvas, lidar_present, image_position, lidar_position)
        queries, position, reference, mask = self.queries(tokens, lidar_present, reference_position)
        last = self.decode(tokens, queries, position, mask)[-1][0]
        prediction = self.heads(last, reference)
        prediction.logits = prediction.logits + mask[:, 0, 0, :, None]
        return prediction

    def encode(self, images: Tensor, camera_present: Tensor, canvas: Tensor, lidar_present: Tensor,
               image_position: Tensor, lidar_position: Tensor) -> Tokens:  # fmt: skip
        """Tokens of all sensors; arguments as for `forward`."""
        if self.training:
            image_tokens = self._encode_present_images(images, camera_present, image_position)
            lidar_tokens = self._encode_present_canvases(canvas, lidar_present, lidar_position)
        else:
            # Zeros in the place of what is missing, so that no stale buffer can reach an output; the mask keeps even
            # those zeros from being attended to.
            image_tokens = self.image_encoder(images * camera_present[:, :, None, None, None], image_position)
            lidar_tokens = self.lidar_encoder(canvas * lidar_present[:, :, None, None], lidar_position)
        per_camera = image_tokens.shape[1] // images.shape[1]
        camera_mask = ((1.0 - camera_present) * MASKED).unsqueeze(-1).expand(-1, -1, per_camera).flatten(1)
        lidar_mask = ((1.0 - lidar_present) * MASKED).expand(-1, lidar_tokens.shape[1])
        heatmap = self.heatmap(lidar_tokens)
        return Tokens(
            memory=torch.cat([image_tokens, lidar_tokens], dim=1),
            position=torch.cat([image_position, lidar_position.expand_as(lidar_tokens)], dim=1),
            mask=torch.cat([camera_mask, lidar_mask], dim=1)[:, None, None, :],
            heatmap=heatmap,
            candidates=self._peaks(heatmap).topk(self.config.candidate_queries, dim=1).indices,
        )

    def queries(
        self, tokens: Tokens, lidar_present: Tensor, reference_position: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The queries of one frame: learned ones, then candidates.

        Returns:
            features (B, N, D), position embeddings (B, N, D), reference points (B, N, 3) m and the mask
            (B, 1, 1, N), which hides candidates where there is no lidar.
        """
        batch, count = tokens.candidates.shape
        learned, width = self.learned.shape
        chosen = tokens.candidates.unsqueeze(-1)
        lidar_tokens = tokens.memory[:, -tokens.heatmap.shape[1] :]
        found = self.candidate(lidar_tokens.gather(1, chosen.expand(-1, -1, width)))
        features = torch.cat([self.learned.expand(batch, -1, -1), found], dim=1)

        candidate_position = reference_position[:, learned:].gather(1, chosen.expand(-1, -1, width))
        position = torch.cat([reference_position[:, :learned], candidate_position], dim=1)

        points = self.position.reference_points().expand(batch, -1, -1)
        reference = torch.cat([points[:, :learned], points[:, learned:].gather(1, chosen.expand(-1, -1, 3))], dim=1)

        hidden = ((1.0 - lidar_present) * MASKED).expand(-1, count)
        mask = torch.cat([torch.zeros_like(hidden[:, :1]).expand(-1, learned), hidden], dim=1)
        return features, position, reference, mask[:, None, None, :]

    def decode(
        self, tokens: Tokens, queries: Tensor, position: Tensor, query_mask: Tensor
    ) -> list[tuple[Tensor, Tensor | None]]:
        """Queries (B, N, D) after each decoder layer, with their attention to the tokens (B, heads, N, M).

        There is no attention to be had in training on a GPU, see `Attention`.

        For training every layer's queries go through the heads; any number of further queries may be appended.
        """
        layers = []
        for layer in self.layers:
            queries, weights = layer(queries, position, tokens.memory, tokens.position, query_mask, tokens.mask)
            layers.append((queries, weights))
        return layers

    def attention(self, *inputs: Tensor) -> Tensor:
        """Where each query looked: (B, layers, N, M) weights, mean over heads; inputs as for `forward`.

        A row sums to 1 over the M tokens: C * T of the cameras, row by row, then those of the canvas.
        """
        tokens = self.encode(*inputs[:6])
        queries, position, _, mask = self.queries(tokens, inputs[3], inputs[6])
        layers = self.decode(tokens, queries, position, mask)
        return torch.stack([weights.mean(dim=1) for _, weights in layers if weights is not None], dim=1)

    def _encode_present_images(self, images: Tensor, camera_present: Tensor, position: Tensor) -> Tensor:
        """Tokens of all cameras, zeros for absent ones: those would spoil the statistics of batch normalisation."""
        present = camera_present > 0
        position = position.unflatten(1, (images.shape[1], -1))
        tokens = position.new_zeros(position.shape)
        if present.any():
            found = self.image_encoder(images[present].unsqueeze(1), position[present])
            tokens = tokens.to(found.dtype).masked_scatter(present[:, :, None, None], found)
        return tokens.flatten(1, 2)

    def _encode_present_canvases(self, canvas: Tensor, lidar_present: Tensor, position: Tensor) -> Tensor:
        """Tokens of all canvases, zeros where there is no lidar, for the same reason."""
        present = lidar_present[:, 0] > 0
        tokens = position.new_zeros(len(canvas), *position.shape[1:])
        if present.any():
            found = self.lidar_encoder(canvas[present], position)
            tokens = tokens.to(found.dtype).masked_scatter(present[:, None, None], found)
        return tokens

    def _peaks(self, heatmap: Tensor) -> Tensor:
        """(B, L, classes) logits -> (B, L) how good a candidate each token is, by its best class.

        A vehicle spans several tokens: what lies below a neighbour of its class is pushed down. Steep instead of a
        comparison for equality, which would depend on how an engine rounds.
        """
        nx, ny = self.config.canvas_tokens
        vehicles = heatmap[..., :_VEHICLE_CLASSES].transpose(1, 2).reshape(-1, _VEHICLE_CLASSES, nx, ny)
        highest = functional.max_pool2d(vehicles, 3, stride=1, padding=1)
        peaks = (vehicles - _PEAK_SHARPNESS * (highest - vehicles)).flatten(2).transpose(1, 2)
        return torch.cat([peaks, heatmap[..., _VEHICLE_CLASSES:]], dim=-1).amax(dim=-1)


def build(config: ModelConfig, seed: int = 0) -> DetectorNet:
    """An untrained network in evaluation mode; the same seed gives the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = DetectorNet(config)
        _initialise(net)
    return net.eval()


def _initialise(net: DetectorNet) -> None:
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(net.learned, std=0.02)
    never = -math.log((1 - _PRIOR) / _PRIOR)
    nn.init.constant_(net.heatmap.bias, never)
    nn.init.constant_(net.heads.logits.bias, never)
    # Small last layers: the first boxes lie at their reference points and have a likely size.
    for last in (net.heads.box, net.heads.log_variance):
        nn.init.normal_(last.weight, std=0.02)
    with torch.no_grad():
        net.heads.box.bias[3:6] = torch.tensor(_FIRST_SIZE_M).log()
        net.heads.box.bias[7] = 1.0  # cosine: straight ahead

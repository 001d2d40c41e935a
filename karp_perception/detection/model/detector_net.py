"""The transformer detector: tokens of cameras and lidar, queries that attend to them, one box for each query.

    images ──> ImageEncoder ──┐ tokens
                              ├──────────> decoder: queries x tokens ──> heads: class, box, variance
    canvas ──> LidarEncoder ──┤                 ^
                              └─> heatmaps ──> top-k candidates, beside the learned queries

Dense attention over all tokens, as in CMT (Yan et al., 2023); candidates from a heatmap on the canvas as in
TransFusion (Bai et al., 2022), and from one with depth on image tokens as in Far3D (Jiang et al., 2024). What a sensor
did not deliver is masked, so one set of weights serves every subset. Every query stands for one object, or for none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from karp_perception.detection.decoding import VEHICLE_CLASSES
from karp_perception.detection.model.block import MASKED, Block, ResidualConvs
from karp_perception.detection.model.config import CLASSES, PLACES, ModelConfig
from karp_perception.detection.model.image_encoder import ImageEncoder
from karp_perception.detection.model.lidar_encoder import LidarEncoder
from karp_perception.detection.model.places import PlaceFeatures, PlaceHeatmap, gathered
from karp_perception.detection.model.position import PositionEmbedding

_PEAK_SHARPNESS = 12.0  # steeper, and what bf16 rounds off decides which of two equal places is the louder
_NO_PEAK = -20.0  # logit to which that pushes down at most: never, and yet far from what marks a masked query
_LOG_DEPTH = (0.0, 4.5)  # 1 to 90 m
_USUAL_DEPTH_M = 20.0
_QUIET = 0.1  # of the usual first weights of what decoder layers add: queries begin as the tokens they come from
_PRIOR = 0.01  # share of queries that are an object at the start of training (focal loss, Lin et al., 2017)
_FIRST_SIZE_M = (3.0, 1.5, 1.6)  # length, width, height that an untrained head says


@dataclass
class Prediction:
    """What the heads say of N queries: learned ones first, then candidates of the lidar, then those of the cameras.

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
        places: (B, P, `place_channels`) what the lidar's stem knows of each place, two by two on each lidar token.
        heatmap: (B, P, 10) logits: is the centre of an object of that class on this place.
        peaks: (B, P, 10) the same, less what a neighbour says louder.
        candidates: (B, K) indices of the places that became queries: the highest peaks.
        image_heatmap: (B, I, 10) logits: does this image token show the centre of an object of that class.
        log_depth: (B, I) of what each image token shows, m at a focal length of `usual_focal_px`.
        image_candidates: (B, J) indices of the image tokens that became queries.
    """

    memory: Tensor
    position: Tensor
    mask: Tensor
    places: Tensor
    heatmap: Tensor
    peaks: Tensor
    candidates: Tensor
    image_heatmap: Tensor
    log_depth: Tensor
    image_candidates: Tensor

    @property
    def lidar_memory(self) -> Tensor:
        """(B, L, D) the lidar's."""
        return self.memory[:, self.log_depth.shape[1] :]

    def image_points(self, image_ray: Tensor, chosen: Tensor) -> Tensor:
        """(B, J, 3) m: where the image tokens `chosen` (B, J) see what they show; rays as `PositionEmbedding` gives."""
        start, along = gathered(image_ray, chosen).split(3, dim=-1)
        depth = self.log_depth.gather(1, chosen).clamp(*_LOG_DEPTH).exp()
        return start + along * depth.unsqueeze(-1)


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
        self.heatmap = PlaceHeatmap(config)
        self.learned = nn.Parameter(torch.zeros(config.learned_queries, config.width))
        self.candidate = PlaceFeatures(config)
        self.image_heatmap = nn.Linear(config.width, CLASSES)
        self.image_candidate = nn.Sequential(
            nn.Linear(config.width, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.heads = Heads(config)
        self.image_depth = nn.Sequential(nn.Linear(config.width, config.width), nn.GELU(), nn.Linear(config.width, 1))
        # Of the scores, class by class: what makes them probabilities (`karp evaluate world --calibrate`).
        self.register_buffer("score_scale", torch.ones(CLASSES))
        self.register_buffer("score_bias", torch.zeros(CLASSES))

    def forward(self, images: Tensor, camera_present: Tensor, canvas: Tensor, lidar_present: Tensor,
                image_position: Tensor, lidar_position: Tensor, reference_position: Tensor, image_ray: Tensor
                ) -> Prediction:  # fmt: skip
        """Boxes of a batch.

        Args:
            images: (B, C, 3, H, W) normalised; anything finite in a missing camera's place.
            camera_present: (B, C) 1 or 0.
            canvas: (B, channels, X, Y); anything finite where there is no lidar.
            lidar_present: (B, 1) 1 or 0.
            image_position, lidar_position, reference_position, image_ray: see `PositionEmbedding.forward`.
        """
        tokens = self.encode(images, camera_present, canvas, lidar_present, image_position, lidar_position)
        queries, position, reference, mask = self.queries(tokens, lidar_present, reference_position, image_ray)
        last = self.decode(tokens, queries, position, mask)[-1][0]
        return self.answers(tokens, last, reference, mask)

    def answers(self, tokens: Tokens, queries: Tensor, reference: Tensor, mask: Tensor) -> Prediction:
        """What queries (B, N, D) say after the last layer; reference points and mask as `queries` gives them.

        Of a candidate of the lidar two things are known: what its place said by itself, which is why it is one, and
        what the decoder made of it. Its logits are the mean of both (TransFusion multiplies the scores): the place sees
        less, but has learnt from more frames. Of the place's word counts what no neighbour says louder, or a vehicle
        would be found once for each place that shows it. Then they are scaled, and those of masked queries pushed down.
        """
        prediction = self.heads(queries, reference)
        first, count = self.config.learned_queries, tokens.candidates.shape[1]
        learned, lidar, images = prediction.logits.split([first, count, queries.shape[1] - first - count], dim=1)
        lidar = 0.5 * (lidar + gathered(tokens.peaks, tokens.candidates))
        logits = torch.cat([learned, lidar, images], dim=1) * self.score_scale + self.score_bias
        prediction.logits = logits + mask[:, 0, 0, :, None]
        return prediction

    def encode(self, images: Tensor, camera_present: Tensor, canvas: Tensor, lidar_present: Tensor,
               image_position: Tensor, lidar_position: Tensor) -> Tokens:  # fmt: skip
        """Tokens of all sensors; arguments as for `forward`."""
        if self.training:
            image_tokens = self._encode_present_images(images, camera_present, image_position)
            lidar_tokens, places = self._encode_present_canvases(canvas, lidar_present, lidar_position)
        else:
            # Zeros in the place of what is missing, so that no stale buffer can reach an output; the mask keeps even
            # those zeros from being attended to.
            image_tokens = self.image_encoder(images * camera_present[:, :, None, None, None], image_position)
            lidar_tokens, places = self.lidar_encoder(canvas * lidar_present[:, :, None, None], lidar_position)
        per_camera = image_tokens.shape[1] // images.shape[1]
        camera_mask = ((1.0 - camera_present) * MASKED).unsqueeze(-1).expand(-1, -1, per_camera).flatten(1)
        lidar_mask = ((1.0 - lidar_present) * MASKED).expand(-1, lidar_tokens.shape[1])
        heatmap = self.heatmap(lidar_tokens, places)
        peaks = self._peaks(heatmap.detach() if self.training else heatmap)  # no loss depends on them
        image_heatmap = self.image_heatmap(image_tokens)
        # How far away what stands on the ground is, is told by its row: a token's ray has to be known.
        log_depth = self.image_depth(image_tokens + image_position).squeeze(-1)
        shown = self._image_peaks(image_heatmap) + camera_mask
        return Tokens(
            memory=torch.cat([image_tokens, lidar_tokens], dim=1),
            position=torch.cat([image_position, lidar_position.expand_as(lidar_tokens)], dim=1),
            mask=torch.cat([camera_mask, lidar_mask], dim=1)[:, None, None, :],
            places=places,
            heatmap=heatmap,
            peaks=peaks,
            candidates=peaks.amax(dim=-1).topk(self.config.candidate_queries, dim=1).indices,
            image_heatmap=image_heatmap,
            log_depth=log_depth,
            image_candidates=shown.topk(min(self.config.image_queries, shown.shape[1]), dim=1).indices,
        )

    def queries(
        self, tokens: Tokens, lidar_present: Tensor, reference_position: Tensor, image_ray: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The queries of one frame: learned ones, candidates of the lidar, candidates of the cameras.

        Returns:
            features (B, N, D), position embeddings (B, N, D), reference points (B, N, 3) m and the mask
            (B, 1, 1, N), which hides candidates of sensors that are not there.
        """
        learned = self.config.learned_queries
        place = torch.cat(
            [reference_position[:, :learned], gathered(reference_position[:, learned:], tokens.candidates)], dim=1
        )
        return self.queries_at(tokens, lidar_present, place, image_ray)

    def places(self, tokens: Tokens) -> Tensor:
        """(B, Q + K, 3) m: reference points of the learned queries and of the lidar's candidates."""
        points = self.position.reference_points().expand(tokens.candidates.shape[0], -1, -1)
        learned = self.config.learned_queries
        return torch.cat([points[:, :learned], gathered(points[:, learned:], tokens.candidates)], dim=1)

    def queries_at(
        self, tokens: Tokens, lidar_present: Tensor, place: Tensor, image_ray: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `queries`, with the embeddings (B, Q + K, D) of `places`: training computes no others."""
        batch, count = tokens.candidates.shape
        shown = tokens.image_candidates
        features = [
            self.learned.expand(batch, -1, -1),
            self.lidar_features(tokens, tokens.candidates),
            self.image_features(tokens, shown),
        ]
        image_position = gathered(tokens.position, shown)  # images come first
        points = tokens.image_points(image_ray, shown).detach()
        no_lidar = ((1.0 - lidar_present) * MASKED).expand(-1, count)
        no_camera = tokens.mask[:, 0, 0].gather(1, shown)
        mask = torch.cat([torch.zeros_like(no_lidar[:, :1]).expand(-1, len(self.learned)), no_lidar, no_camera], dim=1)
        return (
            torch.cat(features, dim=1),
            torch.cat([place, image_position], dim=1),
            torch.cat([self.places(tokens), points], dim=1),
            mask[:, None, None, :],
        )

    def lidar_features(self, tokens: Tokens, chosen: Tensor) -> Tensor:
        """(B, K, D) of queries that begin as the places `chosen` (B, K) of the canvas."""
        return self.candidate(tokens.lidar_memory, tokens.places, chosen)

    def image_features(self, tokens: Tokens, chosen: Tensor) -> Tensor:
        """(B, J, D) of queries that begin as the image tokens `chosen` (B, J).

        Which way an object faces is seen relative to the ray, so the ray has to be known.
        """
        return self.image_candidate(gathered(tokens.memory, chosen) + gathered(tokens.position, chosen))

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
        queries, position, _, mask = self.queries(tokens, inputs[3], inputs[6], inputs[7])
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

    def _encode_present_canvases(
        self, canvas: Tensor, lidar_present: Tensor, position: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Tokens and places of all canvases, zeros where there is no lidar, for the same reason."""
        present = lidar_present[:, 0] > 0
        nx, ny = self.config.canvas_places
        tokens = position.new_zeros(len(canvas), *position.shape[1:])
        places = canvas.new_zeros(len(canvas), nx * ny, self.config.place_channels)
        if present.any():
            found, of_places = self.lidar_encoder(canvas[present], position)
            rows = present.nonzero()[:, 0]
            tokens = tokens.to(found.dtype).index_copy(0, rows, found)
            places = places.to(of_places.dtype).index_copy(0, rows, of_places)
        return tokens, places

    def _peaks(self, heatmap: Tensor) -> Tensor:
        """(B, P, classes) logits -> the same, lowered beside peaks: how good a candidate of a class each place is.

        A vehicle spans several places: what lies below one of its class within a token's side is pushed down. Steep
        instead of a comparison for equality, which would depend on how an engine rounds.
        """
        nx, ny = self.config.canvas_places
        vehicles = heatmap[..., :VEHICLE_CLASSES].transpose(1, 2).reshape(-1, VEHICLE_CLASSES, nx, ny)
        highest = functional.max_pool2d(vehicles, 2 * PLACES + 1, stride=1, padding=PLACES)
        lowered = (vehicles - _PEAK_SHARPNESS * (highest - vehicles)).clamp(min=_NO_PEAK)
        return torch.cat([lowered.flatten(2).transpose(1, 2), heatmap[..., VEHICLE_CLASSES:]], dim=-1)

    def _image_peaks(self, heatmap: Tensor) -> Tensor:
        """(B, C * T, classes) logits -> (B, C * T): as `_peaks`, in each image; there all that is near is large."""
        rows, columns = self.config.image_tokens
        planes = CLASSES * (heatmap.shape[1] // (rows * columns))  # of a class and a camera each
        images = heatmap.transpose(1, 2).reshape(-1, planes, rows, columns)
        highest = functional.max_pool2d(images, 3, stride=1, padding=1)
        peaks = images - _PEAK_SHARPNESS * (highest - images)
        return peaks.reshape(-1, CLASSES, heatmap.shape[1]).amax(dim=1)


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
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(module, ResidualConvs):
            nn.init.zeros_(module.second[1].weight)
    nn.init.zeros_(net.lidar_encoder.context.back.weight)
    nn.init.zeros_(net.lidar_encoder.context.back.bias)
    nn.init.normal_(net.learned, std=0.02)
    never = -math.log((1 - _PRIOR) / _PRIOR)
    nn.init.constant_(net.heatmap.of_token.bias, never)
    nn.init.normal_(net.image_heatmap.weight, std=0.02)
    nn.init.constant_(net.image_heatmap.bias, never)
    nn.init.constant_(net.image_depth[-1].bias, math.log(_USUAL_DEPTH_M))
    for layer in net.layers:
        for block in (layer.among_queries, layer.to_tokens):
            nn.init.xavier_uniform_(block.attention.output.weight, gain=_QUIET)
            nn.init.xavier_uniform_(block.mlp[-1].weight, gain=_QUIET)
    nn.init.constant_(net.heads.logits.bias, never)
    # Small last layers: the first boxes lie at their reference points and have a likely size.
    for last in (net.heads.box, net.heads.log_variance):
        nn.init.normal_(last.weight, std=0.02)
    with torch.no_grad():
        net.heads.box.bias[3:6] = torch.tensor(_FIRST_SIZE_M).log()
        net.heads.box.bias[7] = 1.0  # cosine: straight ahead

"""One step's loss: the network in training mode over a batch, with denoising queries and every layer's boxes judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from karp_perception.detection.model import image_hints
from karp_perception.detection.model.block import MASKED
from karp_perception.detection.model.config import ModelConfig
from karp_perception.detection.model.denoising import Denoising, split
from karp_perception.detection.model.detector_net import DetectorNet, Prediction, Tokens
from karp_perception.detection.model.losses import LossWeights, heatmap_loss, set_loss
from karp_perception.detection.model.matcher import Match, MatchingCost, match
from karp_perception.detection.training.batches import Batch


@dataclass(frozen=True)
class ObjectiveSettings:
    """What is judged, and how much it weighs."""

    weights: LossWeights = LossWeights()
    matching: MatchingCost = MatchingCost()
    denoising_queries: int = 32
    denoising_weight: float = 0.5
    depth_weight: float = 1.0  # per unit of the logarithm
    token_weight: float = 0.5
    token_jitter: float = 0.35  # standard deviation, tokens or places: a heatmap's peak often is next to the centre


class Objective(nn.Module):
    """The network with what only its training needs; called with a batch it gives the loss."""

    def __init__(self, net: DetectorNet, settings: ObjectiveSettings = ObjectiveSettings()) -> None:
        super().__init__()
        self.net, self.settings = net, settings
        self.denoising = Denoising(net.config, settings.denoising_queries)

    @property
    def config(self) -> ModelConfig:
        """Of the network."""
        return self.net.config

    def forward(
        self, batch: Batch, seed: int, half: torch.dtype | None = None, decoder: bool = True
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss and its parts.

        Args:
            batch: frames and objects.
            seed: of the denoising queries.
            half: type of matrix products and convolutions (bfloat16, float16), None for float32.
            decoder: False: encoders alone learn, by what their tokens say themselves, in about half the time.
        """
        net = self.net
        generator = torch.Generator().manual_seed(seed)
        image_position, image_ray = net.position.image_tokens(batch.intrinsics, batch.T_base_camera)
        lidar_position = net.position.place_embedding(net.position.tokens).unsqueeze(0)
        parts: dict[str, Tensor] = {}
        with torch.autocast(batch.canvas.device.type, half, enabled=half is not None):
            tokens = net.encode(
                batch.images, batch.camera_present, batch.canvas, batch.lidar_present, image_position, lidar_position
            )
            taught = [
                self._places_of_objects(tokens, batch, generator),
                self._image_tokens_of_objects(tokens, batch, image_ray, parts, generator),
            ]
        for near, own, unjudged in taught:
            # Tokens learn to say what they show before queries do: boxes converge in a fraction of the steps that the
            # decoder alone needs, which has only ever the gradient of the queries that were matched.
            of_tokens = set_loss(near, batch.targets, own, unjudged, self.settings.weights)
            del of_tokens["label"]  # the heatmaps' business
            _add(parts, {"tokens": torch.stack(list(of_tokens.values())).sum()}, self.settings.token_weight)
        heat = heatmap_loss(tokens.heatmap, batch.targets, batch.lidar_present, net.config)
        parts["heatmap"] = self.settings.weights.heatmap * heat
        if decoder:
            self._decoded(tokens, batch, image_ray, parts, generator, half)
        return torch.stack(list(parts.values())).sum(), parts

    def _decoded(self, tokens: Tokens, batch: Batch, image_ray: Tensor, parts: dict[str, Tensor],
                 generator: torch.Generator, half: torch.dtype | None) -> None:  # fmt: skip
        """Adds the losses of all layers' boxes to `parts`."""
        net = self.net
        place = net.position.embedding_of(net.places(tokens), *batch.calibration)
        with torch.autocast(batch.canvas.device.type, half, enabled=half is not None):
            features, position, reference, mask = net.queries_at(tokens, batch.lidar_present, place, image_ray)
            count = features.shape[1]
            hidden_proper = (mask[:, 0, 0] < 0.5 * MASKED).expand(len(features), -1)
            noisy = self.denoising(batch.targets, net.position, batch.calibration, generator)
            if noisy is not None:
                features = torch.cat([features, noisy.features.to(features.dtype)], dim=1)
                position = torch.cat([position, noisy.position], dim=1)
                reference = torch.cat([reference, noisy.reference], dim=1)
                hidden = noisy.hidden[:, None, None, :] * MASKED
                mask = torch.cat([mask, hidden], dim=-1) + noisy.mask(count)
                mask = mask.clamp(min=MASKED)
            layers = [net.heads(queries, reference) for queries, _ in net.decode(tokens, features, position, mask)]
        for number, prediction in enumerate(layers):
            share = 1.0 if number == len(layers) - 1 else 0.5
            proper, denoised = split(prediction, count)
            found = match(proper, batch.targets, hidden_proper, self.settings.matching)
            losses = set_loss(proper, batch.targets, found, hidden_proper, self.settings.weights)
            _add(parts, losses, share)
            if noisy is not None:
                known = noisy.match(batch.targets)
                losses = set_loss(denoised, batch.targets, known, noisy.hidden, self.settings.weights)
                total = torch.stack(list(losses.values())).sum()
                _add(parts, {"denoising": self.settings.denoising_weight * total}, share)

    def _places_of_objects(
        self, tokens: Tokens, batch: Batch, generator: torch.Generator
    ) -> tuple[Prediction, Match, Tensor]:
        """What the heads make of the places at or beside the centres of the objects, (B, G) of them.

        Also which of them count, and a mask (B, G) that hides them all from the loss of labels.
        """
        net, config, targets = self.net, self.config, batch.targets
        low = net.position.low[:2]
        nx, ny = config.canvas_places
        jitter = torch.randn((*targets.label.shape, 2), generator=generator).to(low.device)
        place = (targets.center[..., :2] - low) / config.place_m + self.settings.token_jitter * jitter
        row, column = place.floor().long().unbind(-1)
        inside = (row >= 0) & (row < nx) & (column >= 0) & (column < ny) & targets.valid
        inside &= batch.lidar_present > 0.5
        index = torch.where(inside, row * ny + column, 0)
        prediction = net.heads(net.lidar_features(tokens, index), net.position.places[index])
        frame, number = torch.nonzero(inside, as_tuple=True)
        return prediction, Match(frame, number, number), torch.ones_like(inside)

    def _image_tokens_of_objects(self, tokens: Tokens, batch: Batch, image_ray: Tensor, parts: dict[str, Tensor],
                                 generator: torch.Generator) -> tuple[Prediction, Match, Tensor]:  # fmt: skip
        """As `_places_of_objects`, of image tokens; adds the losses of their classes and depths to `parts`."""
        net, config, targets = self.net, self.config, batch.targets
        intrinsics, T_base_camera, present = batch.calibration
        shown = image_hints.shown_objects(targets, intrinsics, T_base_camera, config)
        heat = image_hints.heatmap_loss(tokens, targets, shown, present, config)
        depth = image_hints.depth_loss(tokens, targets, shown, batch.calibration, config)
        parts["images"] = self.settings.weights.heatmap * heat + self.settings.depth_weight * depth
        jitter = self.settings.token_jitter * torch.randn((*targets.label.shape, 2), generator=generator)
        index, own = image_hints.center_tokens(targets, shown, present, config, jitter.to(present.device))
        reference = tokens.image_points(image_ray, index).detach()
        return net.heads(net.image_features(tokens, index), reference), own, torch.ones_like(targets.valid)


def _add(parts: dict[str, Tensor], losses: Mapping[str, Tensor], share: float) -> None:
    for name, value in losses.items():
        parts[name] = parts.get(name, 0.0) + share * value

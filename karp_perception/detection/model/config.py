"""The shape of the transformer: every number of it, with the reason beside it. Imports no torch."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from karp_perception.core import CLASS_NAMES, ConfigurationError

CLASSES = len(CLASS_NAMES)
PLACES = 2
"""Places along a lidar token's side, each of which can be where an object is: two people stand on one token."""


@dataclass(frozen=True)
class ModelConfig:
    """Configuration of `DetectorNet` and of the arrays that go into it. The defaults are `nano`.

    Sizes in tokens follow from it: an image of (H, W) pixels has (H/16) x (W/16) of them, the canvas one for each
    square of `token_cells` x `token_cells` cells.
    """

    name: str = "nano"

    # Cameras.
    cameras: int = 3  # most robots have one to three; a slot without a camera is masked
    image_height: int = 128  # with 352 columns over 90 degrees a car 40 m away is 7 pixels high: the least that helps
    image_width: int = 352
    image_stem: tuple[int, ...] = (24, 48, 96, 128)  # channels of the halvings to stride 16: few where pixels are many
    image_residual_from: int = 2  # from this halving on a second, residual convolution: cheap at low resolution
    image_blocks: int = 2  # attention within a camera; relations between cameras are the decoder's business
    horizon_fraction: float = 0.4  # row of the horizon in the cropped image: below it lies what can be hit

    # Lidar canvas, in `base_link`.
    cell_m: float = 0.4  # a pedestrian covers one to two cells, a car's width five
    x_range_m: tuple[float, float] = (-41.6, 48.0)  # more ahead than behind: what is ahead is reached sooner
    y_range_m: tuple[float, float] = (-38.4, 38.4)
    # Above ground: road, kerb, wheel, bonnet, shoulder, roof, van, lorry.
    height_edges_m: tuple[float, ...] = (-0.3, 0.15, 0.4, 0.8, 1.2, 1.6, 2.2, 3.0, 4.5)
    lidar_stem: tuple[int, ...] = (48, 128)  # channels of the halvings from cells to tokens of 1.6 m
    context_width: int = 192  # channels at half the tokens' resolution: convolutions are cheap there
    context_blocks: int = 3  # each sees 13 m farther; the longest vehicles have 18 m
    lidar_blocks: int = 2  # one in local windows, one in strided windows that span the canvas
    window: int = 8  # tokens along a window's side: 64 tokens attend to each other, 13 m in a local window

    # Transformer.
    width: int = 128
    heads: int = 4  # 32 numbers a head
    mlp_ratio: int = 2  # 4 is usual; halving it costs little here and pays for the 1.6 m tokens
    decoder_layers: int = 3
    learned_queries: int = 16  # serve every subset of sensors
    candidate_queries: int = 96  # the best of the heatmap on the canvas: a car park shows as many objects
    image_queries: int = 25  # the best of the heatmap on the image tokens: objects that only cameras see

    # Geometry.
    # Where rays are sampled: finer near, where a metre is many pixels.
    ray_depths_m: tuple[float, ...] = (1.5, 3.0, 5.0, 7.5, 10.5, 14.0, 18.5, 24.0, 31.0, 40.0, 51.0, 64.0)
    position_scale_m: float = 51.2  # half the longest wavelength of the position features
    ray_octaves: int = 3  # wavelengths 102, 51 and 26 m: a ray is known to a token's width, not better
    point_octaves: int = 6  # wavelengths from 102 m to 3.2 m, twice a token: any finer would alias
    reference_z_m: tuple[float, float] = (-1.0, 3.0)  # of learned reference points
    candidate_z_m: float = 0.8  # height of a candidate's reference point: half a car
    offset_scale_m: float = 4.0  # metres that one unit of the centre head means

    def __post_init__(self) -> None:
        stride = 2 ** len(self.image_stem)
        self._require(self.width % self.heads == 0, "width", f"a multiple of heads ({self.heads})")
        self._require(self.cameras >= 1, "cameras", "at least 1")
        self._require(self.image_height % stride == 0, "image_height", f"a multiple of {stride}")
        self._require(self.image_width % stride == 0, "image_width", f"a multiple of {stride}")
        self._require(self.image_stem[-1] == self.width, "image_stem", f"ending with width ({self.width})")
        self._require(self.lidar_stem[-1] == self.width, "lidar_stem", f"ending with width ({self.width})")
        for name in ("x_range_m", "y_range_m"):
            low, high = getattr(self, name)
            cells = (high - low) / self.cell_m
            step = self.window * self.token_cells
            whole = abs(cells - round(cells)) < 1e-6 and round(cells) > 0 and round(cells) % step == 0
            self._require(whole, name, f"a whole number of windows ({self.window} tokens of {self.token_m} m)")
        edges = self.height_edges_m
        self._require(len(edges) >= 2 and list(edges) == sorted(set(edges)), "height_edges_m", "two or more, rising")
        places = self.canvas_places[0] * self.canvas_places[1]
        self._require(0 < self.candidate_queries <= places, "candidate_queries", f"1 to {places} (the canvas' places)")
        self._require(self.learned_queries >= 1, "learned_queries", "at least 1")
        rows, columns = self.image_tokens
        shown = self.cameras * rows * columns
        self._require(0 < self.image_queries <= shown, "image_queries", f"1 to {shown} (the image tokens)")
        self._require(self.context_width >= 1, "context_width", "at least 1")
        even = all(count % 2 == 0 for count in self.canvas_tokens)
        self._require(even, "window", "one with which the canvas has an even number of tokens along x and y")
        self._require(self.decoder_layers >= 1, "decoder_layers", "at least 1")

    def _require(self, right: bool, name: str, expected: str) -> None:
        if not right:
            raise ConfigurationError(f"model {self.name!r}: {name}: expected {expected}, got {getattr(self, name)!r}")

    @property
    def image_tokens(self) -> tuple[int, int]:
        """Rows and columns of one camera's tokens."""
        stride = 2 ** len(self.image_stem)
        return self.image_height // stride, self.image_width // stride

    @property
    def token_cells(self) -> int:
        """Cells along a lidar token's side."""
        return 2 ** len(self.lidar_stem)

    @property
    def token_m(self) -> float:
        """Side of a lidar token, m."""
        return self.token_cells * self.cell_m

    @property
    def canvas_cells(self) -> tuple[int, int]:
        """Cells of the canvas along x and y."""
        return tuple(round((high - low) / self.cell_m) for low, high in (self.x_range_m, self.y_range_m))  # type: ignore[return-value]

    @property
    def canvas_tokens(self) -> tuple[int, int]:
        """Lidar tokens along x and y."""
        nx, ny = self.canvas_cells
        return nx // self.token_cells, ny // self.token_cells

    @property
    def place_m(self) -> float:
        """Side of a place, m."""
        return self.token_m / PLACES

    @property
    def canvas_places(self) -> tuple[int, int]:
        """Places along x and y."""
        nx, ny = self.canvas_tokens
        return PLACES * nx, PLACES * ny

    @property
    def place_channels(self) -> int:
        """Numbers that the stem knows of each place: those of the stage before the tokens."""
        return (self.canvas_channels, *self.lidar_stem)[-2]

    @property
    def canvas_channels(self) -> int:
        """Height bins; max, mean and ground height; intensity; two offsets; time."""
        return len(self.height_edges_m) - 1 + 7

    @property
    def queries(self) -> int:
        """Learned ones, candidates of the lidar and candidates of the cameras: rows of every output, in that order."""
        return self.learned_queries + self.candidate_queries + self.image_queries

    def kind_of_query(self, row: int) -> str:
        """Where the query behind a row of the outputs comes from, in words."""
        if row < self.learned_queries:
            return "a learned query"
        return f"a {'lidar' if row < self.learned_queries + self.candidate_queries else 'camera'} candidate"

    @property
    def usual_focal_px(self) -> float:
        """Focal length at which the depth that image tokens tell is the depth itself: a view of 80 degrees."""
        return 0.6 * self.image_width

    @property
    def token_count(self) -> int:
        """Tokens that the decoder attends to: those of all cameras in order, then the lidar's, both row by row."""
        rows, columns = self.image_tokens
        nx, ny = self.canvas_tokens
        return self.cameras * rows * columns + nx * ny

    def to_json(self) -> str:
        """One line that `from_json` reads: it is kept in the metadata of weight files."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str = "model configuration") -> ModelConfig:
        """The configuration in a JSON object. Raises ConfigurationError for anything that is none."""
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ConfigurationError(f"{where}: expected a JSON object, got {text[:40]!r} ({error})") from None
        known = {field.name for field in dataclasses.fields(cls)}
        if not isinstance(values, Mapping) or not set(values) <= known:
            unknown = sorted(set(values) - known) if isinstance(values, Mapping) else type(values).__name__
            raise ConfigurationError(f"{where}: expected the fields of ModelConfig, got {unknown}")
        try:
            return cls(**{str(key): _as_tuple(value) for key, value in values.items()})
        except TypeError as error:
            raise ConfigurationError(f"{where}: a value has the wrong type ({error})") from None


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


NANO = ModelConfig()
"""For CPUs and small robots."""

TINY = ModelConfig(
    name="tiny",
    cameras=6,  # the ring of nuScenes' cars
    image_height=256,
    image_width=704,
    image_stem=(32, 64, 128, 192),
    image_residual_from=1,
    image_blocks=3,
    x_range_m=(-51.2, 51.2),  # nuScenes' range for cars is 50 m all around
    y_range_m=(-51.2, 51.2),
    lidar_stem=(64, 192),
    context_width=160,  # with the blocks of convolutions, what a weight file of 20 MB has room for
    context_blocks=2,
    width=192,
    heads=6,
    mlp_ratio=4,
    decoder_layers=4,
    learned_queries=40,
    candidate_queries=120,
    image_queries=40,
)
"""For a car's computer with a GPU."""

MODELS: dict[str, ModelConfig] = {config.name: config for config in (NANO, TINY)}

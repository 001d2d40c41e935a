"""Videos that browsers play: H.264 in MP4, written under a temporary name and renamed when complete."""

from __future__ import annotations

import logging
import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core.errors import BackendUnavailable, ConfigurationError, InvalidInput

if TYPE_CHECKING:
    from typing_extensions import Self

_log = logging.getLogger(__name__)

# In order of preference, with what makes each quick and its pictures good. All but the last play in browsers.
_ENCODERS: tuple[tuple[str, dict[str, str]], ...] = (
    ("libx264", {"preset": "veryfast", "crf": "20"}),
    ("libopenh264", {"allow_skip_frames": "0"}),
    ("libsvtav1", {"preset": "10", "crf": "32"}),
    ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "6", "crf": "30"}),
    ("mpeg4", {"q": "4"}),
)
_BIT_RATE = 6_000_000  # bit/s, for encoders that are not steered by quality


class VideoWriter:
    """Writes RGB frames into an MP4 file.

        with VideoWriter(Path("drive.mp4"), fps=10, size=(1280, 720)) as video:
            video.write(image)

    The file appears under its name when the block ends without an error, complete; after an error, or without
    frames, none is left behind. H.264 wants even sizes: an odd last row or column is repeated.

    Args:
        path: of the file; its folder is made.
        fps: frames a second.
        size: width, height of the frames, px.

    Raises:
        ConfigurationError: for an impossible rate or size.
        BackendUnavailable: where PyAV is missing or has no encoder for video.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        if not (np.isfinite(fps) and fps > 0 and min(size) >= 2):
            raise ConfigurationError(f"VideoWriter: expected fps above 0 and a size of at least 2x2, got {fps}, {size}")
        try:
            import av
        except ImportError as error:
            raise BackendUnavailable(f"videos need PyAV, which does not import ({error}): pip install av") from None
        self._av: Any = av
        self.path, self.size = Path(path), (int(size[0]), int(size[1]))
        self._even = tuple(n + n % 2 for n in self.size)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self._rate = Fraction(fps).limit_denominator(1001)
        # faststart: the index goes to the front, so that a browser can begin before it has the whole file.
        self._container = av.open(str(self._temporary), "w", format="mp4", options={"movflags": "faststart"})
        self._stream = self._opened_stream()
        self.frames = 0

    def _opened_stream(self) -> Any:
        for name, options in _ENCODERS:
            try:
                stream = self._container.add_stream(name, rate=self._rate, options=options)
            except (self._av.FFmpegError, ValueError):
                continue
            stream.width, stream.height = self._even
            stream.pix_fmt = "yuv420p"
            if "crf" not in options:
                stream.bit_rate = _BIT_RATE
            if name != _ENCODERS[0][0]:
                _log.warning("%s: PyAV has no %s here, so the video is encoded by %s", self.path, _ENCODERS[0][0], name)
            self.encoder = name
            return stream
        self._discard()
        raise BackendUnavailable(f"PyAV {self._av.__version__} has none of {', '.join(n for n, _ in _ENCODERS)}")

    def write(self, image: np.ndarray) -> None:
        """Appends one frame: (H, W, 3) uint8 RGB of the size given at the start. Raises InvalidInput for others."""
        width, height = self.size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise InvalidInput("video frame", f"({height}, {width}, 3) uint8 RGB", f"{image.shape} {image.dtype}")
        if self._even != self.size:
            extra = ((0, self._even[1] - height), (0, self._even[0] - width), (0, 0))
            image = np.pad(image, extra, mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame.pts = self.frames
        frame.time_base = 1 / self._rate
        self._container.mux(self._stream.encode(frame))
        self.frames += 1

    def close(self) -> None:
        """Finishes the file and gives it its name; a video without frames leaves nothing. Further calls do nothing."""
        if self._container is None:
            return
        if self.frames == 0:
            self._discard()
            return
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        except BaseException:
            self._discard()
            raise
        self._container = None
        os.replace(self._temporary, self.path)

    def _discard(self) -> None:
        container, self._container = self._container, None
        try:
            container.close()
        except self._av.FFmpegError as error:
            _log.debug("%s: closing an unfinished video: %s", self.path, error)
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        elif self._container is not None:
            self._discard()

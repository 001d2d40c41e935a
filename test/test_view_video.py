"""Videos: what is written is what players read."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from karp_perception.core import ConfigurationError, InvalidInput
from karp_perception.view import video as video_module
from karp_perception.view.video import VideoWriter

av = pytest.importorskip("av", reason="PyAV is not installed")


def pictures(size: tuple[int, int], count: int = 12) -> list[np.ndarray]:
    """A bright square that wanders to the right on a dark ground."""
    images = []
    for k in range(count):
        image = np.full((size[1], size[0], 3), (30, 40, 60), np.uint8)
        image[10:30, 5 + 8 * k : 25 + 8 * k] = (240, 60, 40)
        images.append(image)
    return images


@pytest.mark.parametrize("size", [(160, 96), (161, 97)])
def test_a_video_has_its_frames_rate_size_and_colours(tmp_path: Path, size: tuple[int, int]):
    images = pictures(size)
    path = tmp_path / "deep" / "drive.mp4"
    with VideoWriter(path, 12.5, size) as writer:
        for image in images:
            writer.write(image)
    even = (size[0] + size[0] % 2, size[1] + size[1] % 2)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert float(stream.average_rate) == pytest.approx(12.5)
        assert (stream.width, stream.height, stream.pix_fmt) == (*even, "yuv420p")
        assert stream.codec_context.name == "h264"
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(decoded) == len(images)
    for got, sent in zip(decoded, images, strict=True):
        assert np.abs(got[: size[1], : size[0]].astype(int) - sent).mean() < 6
    reader = cv2.VideoCapture(str(path))
    if reader.isOpened():
        assert int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) == len(images)
    reader.release()
    # The index comes before the pictures: a browser can begin at once.
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    assert [file.name for file in path.parent.iterdir()] == ["drive.mp4"]


def test_the_next_encoder_steps_in_with_a_line_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setattr(video_module, "_ENCODERS", (("no_such_encoder", {}), ("mpeg4", {"q": "4"})))
    with VideoWriter(tmp_path / "v.mp4", 10, (64, 48)) as writer:
        for image in pictures((64, 48), 3):
            writer.write(image)
    assert "no no_such_encoder" in caplog.text
    assert "mpeg4" in caplog.text
    with av.open(str(tmp_path / "v.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 3


def test_nothing_stays_behind_after_an_error_or_without_frames(tmp_path: Path):
    (tmp_path / "v.mp4").write_text("the old one")

    def write(*sizes: tuple[int, int]) -> None:
        with VideoWriter(tmp_path / "v.mp4", 10, (64, 48)) as writer:
            for size in sizes:
                writer.write(pictures(size, 1)[0])

    with pytest.raises(InvalidInput):
        write((64, 48), (48, 64))
    assert (tmp_path / "v.mp4").read_text() == "the old one"
    with VideoWriter(tmp_path / "empty.mp4", 10, (64, 48)):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["v.mp4"]


def test_wrong_frames_and_settings_are_refused_by_what_was_expected(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="fps above 0"):
        VideoWriter(tmp_path / "v.mp4", 0, (64, 48))
    writer = VideoWriter(tmp_path / "v.mp4", 10, (64, 48))
    with pytest.raises(InvalidInput, match=r"\(48, 64, 3\)"):
        writer.write(np.zeros((64, 48, 3), np.uint8))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.close()
    writer.close()
    assert (tmp_path / "v.mp4").stat().st_size > 0

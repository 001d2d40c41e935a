"""Folders with frame.json, as `karp world` writes them and `sensing.labelled_frame` reads them."""

from __future__ import annotations

import os
from pathlib import Path

from karp_perception.core.errors import InvalidInput
from karp_perception.sensing.datasets.dataset import index_of
from karp_perception.sensing.labelled_frame import LabelledFrame, load_labelled_frame

_FRAME = "frame.json"


class FrameFolders:
    """Labelled frames in folders of their own, in order of their names.

    Args:
        path: a frame's folder, a folder of such folders, or one that has them in `frames/`.

    Raises InvalidInput where there is none.
    """

    format = "frames"

    def __init__(self, path: Path | str) -> None:
        self.name = str(path)
        self._root, self._folders = _frames_in(Path(path))
        if not self._folders:
            raise InvalidInput(self.name, f"{_FRAME} in it, in its folders or in frames/*", "none")

    def __len__(self) -> int:
        return len(self._folders)

    def __getitem__(self, i: int) -> LabelledFrame:
        return load_labelled_frame(self.folder(i))

    def folder(self, i: int) -> Path:
        """Where frame `i` lies."""
        return self._root / self._folders[index_of(i, len(self))]


def is_frame_folders(path: Path) -> bool:
    """Whether there is at least one frame."""
    return bool(_frames_in(path, first=True)[1])


def _frames_in(path: Path, *, first: bool = False) -> tuple[Path, list[str]]:
    """The folder that holds the frames, and their names (`first`: one is enough)."""
    if (path / _FRAME).is_file():
        return path, ["."]
    for root in (path / "frames", path):
        if not root.is_dir():
            continue
        with os.scandir(root) as entries:
            names = []
            for entry in entries:
                # Hidden ones are not complete: that is how they are written.
                if not entry.name.startswith(".") and os.path.isfile(os.path.join(entry.path, _FRAME)):
                    names.append(entry.name)
                    if first:
                        break
        if names:
            return root, sorted(names)
    return path, []

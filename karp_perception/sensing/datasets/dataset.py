"""What a data set is to its users, and opening one whatever its format."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Protocol

from karp_perception.core.errors import ConfigurationError, InvalidInput
from karp_perception.sensing.labelled_frame import LabelledFrame

_BAG_FILES = (".mcap", ".db3", ".bag")
_TOLD = 5  # entries of a folder that a message names


class Dataset(Protocol):
    """Labelled frames by number. Opening one reads its index, the sensor data of a frame are read on request.

    `dataset[i]` raises IndexError beyond the end (so that a loop over it ends) and InvalidInput, naming the file, for a
    frame whose files are missing, damaged or say the impossible. Instances can be pickled.
    """

    @property
    def name(self) -> str:
        """For people: the folder or file."""

    @property
    def format(self) -> str:
        """One of FORMATS, or what made the labels."""

    def __len__(self) -> int:
        """Number of frames."""

    def __getitem__(self, i: int) -> LabelledFrame:
        """Frame `i`; numbers from -len to -1 count from the end."""


def index_of(i: int, count: int) -> int:
    """A number from 0 to count - 1 for an index that may count from the end. Raises IndexError outside."""
    if not -count <= i < count:
        raise IndexError(f"frame {i} of {count}")
    return i % count


class JoinedDatasets:
    """Several data sets as one, in order."""

    def __init__(self, parts: Sequence[Dataset], name: str) -> None:
        if not parts:
            raise ConfigurationError(f"{name}: expected data sets to join, got none")
        self.parts, self.name = tuple(parts), name
        self._ends = list(accumulate(map(len, self.parts)))

    @property
    def format(self) -> str:
        """Formats of the parts."""
        return "+".join(dict.fromkeys(part.format for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, i: int) -> LabelledFrame:
        i = index_of(i, len(self))
        part = bisect_right(self._ends, i)
        return self.parts[part][i - (self._ends[part - 1] if part else 0)]


def open_dataset(path: Path | str, format: str | None = None, **options: Any) -> Dataset:
    """A data set in any of the formats that are known.

    Args:
        path: a folder, or a recording.
        format: one of FORMATS; None finds it out.
        options: of the format: see `KittiObject`, `NuScenes`, `FrameFolders`, `LabelledBag`.

    Raises:
        InvalidInput: nothing of the kind is there; says what was looked for.
        ConfigurationError: a format or an option that does not exist.
    """
    path = Path(path)
    if format is not None and format not in FORMATS:
        raise ConfigurationError(f"format {format!r}: there is none of that name, only {', '.join(FORMATS)}")
    if not path.exists():
        raise InvalidInput(str(path), "a folder with labelled data, or a recording", "nothing of that name")
    if format is None:
        format = next((name for name, (recognise, _) in _FORMATS.items() if recognise(path)), None)
    if format is None:
        raise InvalidInput(str(path), _LOOKED_FOR, _what_is_there(path), "give the folder that holds one of these")
    _, opened = _FORMATS[format]
    try:
        return opened(path, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise ConfigurationError(f"{path}: format {format}: {str(error).split(') ', 1)[-1]}") from None


_LOOKED_FOR = (
    "frames (frame.json in folders), kitti (training/ with velodyne, calib, label_2), "
    "nuscenes (v1.0-*/sample.json) or a bag (.mcap, .db3, .bag)"
)


def _what_is_there(path: Path) -> str:
    if path.is_file():
        return f"a file {path.suffix or 'without suffix'}"
    names = sorted(entry.name for entry in path.iterdir())
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return f"a folder with {', '.join(names[:_TOLD]) or 'nothing'}{more}"


def _frame_folders(path: Path, **options: Any) -> Dataset:
    from karp_perception.sensing.datasets.frame_folders import FrameFolders

    return FrameFolders(path, **options)


def _kitti_object(path: Path, **options: Any) -> Dataset:
    from karp_perception.sensing.datasets.kitti_object import KittiObject

    return KittiObject(path, **options)


def _nuscenes(path: Path, **options: Any) -> Dataset:
    from karp_perception.sensing.datasets.nuscenes import NuScenes

    return NuScenes(path, **options)


def _bags(path: Path, **options: Any) -> Dataset:
    from karp_perception.sensing.datasets.labelled_bag import LabelledBag

    inside = _bags_inside(path)
    if not inside:
        return LabelledBag(path, **options)
    return JoinedDatasets([LabelledBag(bag, **options) for bag in inside], str(path))


def _is_frames(path: Path) -> bool:
    from karp_perception.sensing.datasets.frame_folders import is_frame_folders

    return is_frame_folders(path)


def _is_kitti(path: Path) -> bool:
    return (path / "training" / "label_2").is_dir() or (path / "label_2").is_dir()


def _is_nuscenes(path: Path) -> bool:
    return (path / "sample.json").is_file() or any(path.glob("v1.0-*/sample.json"))


def _is_bag(path: Path) -> bool:
    if path.is_file():
        return path.name.removesuffix(".zstd").endswith(_BAG_FILES)
    return _holds_bag(path) or bool(_bags_inside(path))


def _holds_bag(folder: Path) -> bool:
    return (folder / "metadata.yaml").is_file() or any(
        entry.name.removesuffix(".zstd").endswith(_BAG_FILES) for entry in folder.iterdir()
    )


def _bags_inside(path: Path) -> list[Path]:
    """Bag directories in a folder that is none itself, or in its folder `bags`, as `karp world --bags` makes them."""
    if path.is_file() or _holds_bag(path):
        return []
    folder = path / "bags" if (path / "bags").is_dir() else path
    return [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and (entry / "metadata.yaml").is_file()]


_FORMATS: dict[str, tuple[Callable[[Path], bool], Callable[..., Dataset]]] = {
    "nuscenes": (_is_nuscenes, _nuscenes),
    "kitti": (_is_kitti, _kitti_object),
    "frames": (_is_frames, _frame_folders),
    "bag": (_is_bag, _bags),
}
FORMATS = tuple(_FORMATS)
"""Names of the formats."""

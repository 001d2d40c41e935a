"""Where the launch files, configurations and models lie: in a checkout, a pip installation or a colcon workspace."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from karp_perception.core.errors import ConfigurationError

_HERE = Path(__file__)
_PACKAGE = "karp_perception"


def resource(*parts: str) -> Path:
    """The installed file or folder `parts`, as in `resource("config", "stack.yaml")`.

    Raises ConfigurationError, naming the folder searched, where there is no such thing.
    """
    root = resource_root()
    path = root.joinpath(*parts)
    if not path.exists():
        wanted = "/".join(parts)
        raise ConfigurationError(f"there is no {wanted!r} in {root}; it comes with the package: install it again")
    return path


def parameter_file(name: str | Path) -> Path:
    """A parameter file, or that of a vehicle by its name, as in `parameter_file("robot")`.

    Raises ConfigurationError, naming the vehicles, where it is neither.
    """
    if Path(name).is_file():
        return Path(name)
    vehicles = resource("config", "vehicles")
    found = vehicles / f"{name}.yaml"
    if Path(name).name == str(name) and found.is_file():
        return found
    known = ", ".join(sorted(file.stem for file in vehicles.glob("*.yaml")))
    raise ConfigurationError(f"{name}: expected a parameter file, or a vehicle ({known}); there is no such file")


@lru_cache(maxsize=1)
def resource_root() -> Path:
    """The folder that holds `launch`, `config` and `models`.

    A checkout (also behind an editable or symlinked installation) has them beside the package; pip and colcon install
    them to `share/karp_perception` of the prefix that the package lies in, however deep.
    """
    return find_root(_HERE)


def find_root(module: Path) -> Path:
    """`resource_root` for a package whose module `core/resources.py` is `module`; raises ConfigurationError."""
    checkout = module.resolve().parents[2]
    if (checkout / "package.xml").is_file():
        return checkout
    for prefix in module.absolute().parents:
        share = prefix / "share" / _PACKAGE
        if (share / "package.xml").is_file():
            return share
    raise ConfigurationError(
        f"neither {checkout} nor a folder above {module} holds share/{_PACKAGE}: "
        "the package is installed in part only; install it with pip or colcon"
    )

"""Compile all of the embedded world's code ahead of time: `python -m karp_perception.world.warm_up`.

It is kept for later processes (see `compiled`). Without this the first world on a machine takes a minute or two longer.
"""

from __future__ import annotations

from karp_perception.world.embedded import EmbeddedWorld, Setup


def warm_up() -> None:
    """Sense one moment of a world with everything in it."""
    with EmbeddedWorld(Setup("intersection"), "nano") as world:
        world.truth()
        world.tick()


if __name__ == "__main__":
    warm_up()

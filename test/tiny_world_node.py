"""The `world` node around a tiny world, as a process for tests: the scenario `breaks` fails after some ticks."""

from __future__ import annotations

import sys

from tiny_world import TinyWorld

from karp_perception.core import KarpError
from karp_perception.ros import world_node
from karp_perception.ros.world_settings import WorldNodeSettings


class BreakingWorld(TinyWorld):
    """Loses its simulator after half a second."""

    def tick(self) -> None:
        super().tick()
        if self.ticks == 5:
            raise KarpError("the simulator is gone")


def make_world(settings: WorldNodeSettings) -> TinyWorld:
    return (BreakingWorld if settings.scenario == "breaks" else TinyWorld)(settings.seed)


world_node.make_world = make_world
sys.exit(world_node.main())

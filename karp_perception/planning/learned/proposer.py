"""Ideas of the network for the planner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from karp_perception.planning.learned.network import KINDS, ProposerNetwork
from karp_perception.planning.learned.offsets import STATIONS, Shifted, span_at
from karp_perception.planning.learned.tokens import SECONDS, tokens_of, usual
from karp_perception.planning.proposals import Idea, Moment

_BESIDE = 0.3  # m: who ends up nearer to the line drives along it


class LearnedProposer:
    """A network's ideas; see `proposals.Proposer`. It remembers nothing.

    Args:
        network: that has them.
    """

    def __init__(self, network: ProposerNetwork) -> None:
        self.network = network

    def propose(self, moment: Moment) -> Sequence[Idea]:
        """As many as the network has, named with the decision that each amounts to and its probability."""
        ideas = self.network.run(tokens_of(moment))
        usually = usual(moment)
        found = []
        for k, (shifts, change) in enumerate(zip(ideas.shifts[0], ideas.change[0], strict=True)):
            kind = KINDS[int(ideas.kind[0, k].argmax())]
            policy = f"{kind.value} {ideas.probability[0, k]:.0%}"
            found.append(idea_of(moment, f"learned {k + 1}", policy, shifts, usually + change))
        return found


def idea_of(moment: Moment, name: str, policy: str, shifts: np.ndarray, acceleration: np.ndarray) -> Idea:
    """An idea in numbers.

    Args:
        shifts: (6,) m to the left of the way along the route, see `offsets.Shifted`; not beyond the room that there is.
        acceleration: (SECONDS,) m/s² at most, second by second; inf for as one likes.
    """
    base, span = moment.ways[0].corridor.approach, span_at(moment.speed)
    along = base.offset_at(span * STATIONS)[0]
    low, high = moment.room
    # Who is beyond the room already comes back into it in time, by the way along the route.
    offsets = np.clip(along + shifts, np.minimum(low, along), np.maximum(high, along))
    time = moment.options[0].profile.time
    most = np.asarray(acceleration, float)[np.minimum(time.astype(int), SECONDS - 1)]
    side = "" if abs(offsets[-1]) < _BESIDE else "left" if offsets[-1] > 0 else "right"
    return Idea(name, policy, Shifted(base, span, offsets - along), side, most)


def open_proposer(name: str) -> LearnedProposer | None:
    """The proposer of a shipped name or a file; None for `none`, and, with a line in the log, where a shipped name has
    no weights. Raises ConfigurationError for a file that cannot be used."""
    network = ProposerNetwork.open(name, without="nothing is proposed by a network")
    return None if network is None else LearnedProposer(network)

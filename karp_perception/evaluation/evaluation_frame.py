"""A labelled frame, named and numbered. Imports no detector, for processes that make frames need none."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.sensing.labelled_frame import LabelledFrame


@dataclass(frozen=True)
class EvaluationFrame:
    """A labelled frame to be evaluated.

    Attributes:
        index: place in the order of results, whatever order frames come in.
        name: for people.
        kind: what it is counted with beside the total: a family of places, a source of recordings.
        frame: sensors and labels.
    """

    index: int
    name: str
    kind: str
    frame: LabelledFrame

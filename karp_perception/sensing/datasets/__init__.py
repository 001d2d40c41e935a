"""Labelled data that people have, in the formats it comes in: each a Dataset of LabelledFrame."""

from karp_perception.sensing.datasets.dataset import FORMATS, Dataset, JoinedDatasets, open_dataset

__all__ = ["FORMATS", "Dataset", "JoinedDatasets", "open_dataset"]

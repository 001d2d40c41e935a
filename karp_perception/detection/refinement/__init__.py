"""Boxes judged and fitted by the raw points in them: the detector's cells have 0.4 m, points know centimetres."""

"""Training of the proposer: torch is needed here and nowhere else in planning."""

"""Proposals by a small transformer: they join the others, and the same scorer judges them."""

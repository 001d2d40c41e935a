"""Networks so small that no backend is worth its start: in numpy, and in torch for their training alone."""

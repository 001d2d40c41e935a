"""What the trainings of small networks share: torch is needed here and nowhere else in this package."""

"""A run: names become objects here and nowhere else."""

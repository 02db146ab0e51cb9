"""Observations: tables come in here and nowhere else."""

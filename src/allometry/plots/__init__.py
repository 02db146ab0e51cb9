"""Plots: posterior or decision to matplotlib Axes."""

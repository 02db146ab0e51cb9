"""Priors: posterior to prior file to prior, and the bundled library."""

"""Inference: laws, priors, groups and observations to a posterior."""

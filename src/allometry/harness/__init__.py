"""Harness: corpus, training, sweeps and the latency bench."""

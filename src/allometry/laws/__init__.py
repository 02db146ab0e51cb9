"""Laws: loss, valley and latency as pure JAX functions."""

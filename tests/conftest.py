"""Settings of the whole suite."""

from hypothesis import settings

# The same examples on every run and machine; no deadline, since a first example may compile.
settings.register_profile("allometry", derandomize=True, deadline=None)
settings.load_profile("allometry")

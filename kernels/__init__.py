"""The mLSTM cell: its definition, and fast forms of it."""

if __name__ != "allometry.kernels":
    raise ImportError(f"imported as {__name__!r}; import allometry.kernels instead")

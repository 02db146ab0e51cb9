"""The Transformer and the xLSTM, in PyTorch."""

if __name__ != "allometry.models":
    raise ImportError(f"imported as {__name__!r}; import allometry.models instead")

"""Report: posterior to one self-contained page."""

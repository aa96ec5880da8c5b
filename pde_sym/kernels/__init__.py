"""Compiled CPU kernels; each agrees with a torch reference to round-off."""

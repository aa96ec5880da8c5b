"""What counts as exact, by precision: the one table of tolerances."""

import torch

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-12}
"""Relative defect that counts as exact."""

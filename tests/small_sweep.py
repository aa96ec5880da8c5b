"""A sweep that takes seconds: waves over a hill, two families, two strengths."""

from pathlib import Path

RECIPE = """
title = "Waves over a hill"
term = "bathymetry"
strengths = [0.0, 0.3]
sizes = [3]
seeds = 2
parameters = 300
future_gap = 3

[trajectories]
train = 3
valid = 2
test = 2

[data]
resolution = 32
length = 32.0
frames = 4
dt = 0.05
initial = { modes = 3 }
system = { kind = "kdv" }

[out_of_distribution]
modes = 4

[training]
updates = 4
evaluate_every = 2
batch_size = 2

[[families]]
name = "free"
role = "free"
model = { kind = "cnn", depth = 2, kernel_size = 3, position_channels = true }
tune = [{ training.learning_rate = 1e-2 }, { training.learning_rate = 1e-5 }]

[[families]]
name = "relaxed"
role = "relaxed"
model = { kind = "modulated", depth = 2, kernel_size = 3, position_modes = 2 }
tune = [{ training.penalty = 0.0 }, { training.penalty = 0.1 }]
"""


def write(folder: Path, text: str = RECIPE) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "small.toml"
    path.write_text(text)
    return str(path)

"""From trajectories to a score: data, windows, losses, the training and its host."""

"""The trainer: phases, optimizer groups, losses, checkpoints, metrics."""

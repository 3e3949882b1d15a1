"""Training of one arm: processes, batches, loss, guards and checkpoints."""

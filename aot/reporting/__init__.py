"""What people read of a run: one self-contained HTML report, a model card, and a few lines for the terminal."""

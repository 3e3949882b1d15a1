"""Data over the border: what a run fetches before it starts, and what of it others may train on."""

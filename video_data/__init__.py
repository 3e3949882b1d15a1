"""Decoding, sampling and data sets; a leaf that imports nothing of ours and nothing of torch."""

"""Decoding, sampling and data sets; a leaf that imports files, errors and seeds of ours, and nothing of torch."""

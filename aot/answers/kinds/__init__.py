"""Parsers and comparisons, one file for each family of answers."""

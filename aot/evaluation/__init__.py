"""Scores, baselines, intervals and paired tests: rows of records in, rows of metrics out; no model, no video."""

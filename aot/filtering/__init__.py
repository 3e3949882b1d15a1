"""Filters: each looks at one trace and gives one verdict with a countable reason; chain.py runs them all."""

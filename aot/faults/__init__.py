"""Defects planted in verified traces, so that filters can be measured and the worth of a chain's content, too."""

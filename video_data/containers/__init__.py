"""Which container a file is, whether it is whole by its own lengths, and what its packets say."""

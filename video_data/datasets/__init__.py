"""Data sets: how questions about clips are read or made."""

"""Writes a trained arm as one folder, proves it in a fresh process, and compares other servers with it."""

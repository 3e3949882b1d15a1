"""The text door: problem sets, text teachers and orders of thought; nothing of it is built yet."""

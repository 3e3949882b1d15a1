"""The text door: problem sets, teachers that write chains, orders of thought, and chains of the student's own."""

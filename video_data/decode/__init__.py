"""From a file to frames with their true times, in child processes and under budgets."""

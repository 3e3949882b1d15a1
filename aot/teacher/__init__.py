"""The agent teacher: plans typed tool calls for a question about a clip, executes them, and writes traces."""

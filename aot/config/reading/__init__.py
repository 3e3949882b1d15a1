"""How a file becomes a config: YAML without surprises, includes and overrides, and who reads which setting."""

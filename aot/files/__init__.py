"""The run folder and everything on disk: names, publishing, leases, seals, pieces of a stage, what is left to do."""

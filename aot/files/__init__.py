"""The run folder and everything on disk: names, publishing, leases, seals, trace parts, what is left to do."""

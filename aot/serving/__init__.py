"""A trained student at work: exported, loaded, asked, served, calibrated, in a cascade, on a stream.

Nothing is imported here, so that commands which only name this room start without torch.
"""

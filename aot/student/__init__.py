"""The student: a small image-text model that learns answers, and the reasoning behind them, from kept traces.

Nothing is imported here, so that commands which only name this room start without torch.
"""

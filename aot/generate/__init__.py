"""The generate stage of both doors: questions without a trace are solved, in this process, in others, on Ray."""

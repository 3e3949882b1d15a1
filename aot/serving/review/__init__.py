"""A person between the student and whoever asked: the page on which verdicts are given, and the queue of a server."""

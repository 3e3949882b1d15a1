"""Where text problems come from: local files, tasks drawn by a package, and tasks of our own."""

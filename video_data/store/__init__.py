"""Every clip decoded once: frames in shards, with notes that let an interrupted run go on."""

"""Who judges the replies of a student, shown the evidence, and what comes of it: `judge_rollouts` is the door."""

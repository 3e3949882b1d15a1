"""The commands beside the stages: plan, status, compare, score, baselines, doctor, single clips."""

"""How many students the arms of a run train, and for how many optimiser steps, helpers included; imports no torch."""

from aot.config import ArmConfig, RunConfig


def planned_steps(arm: ArmConfig, config: RunConfig) -> int:
    """Optimiser steps of an arm and its helpers, at most."""
    return sum(planned_students(arm, config))


def planned_students(arm: ArmConfig, config: RunConfig) -> list[int]:
    """Optimiser steps of each student that an arm trains, at most: its helpers, then itself."""
    own = config.steps_of(arm)
    if arm.order == "adaptive":
        return [fold_steps(arm, config)] * config.train.adaptive.folds + [own]
    return [own] * (config.train.own_chains.rounds if arm.chains == "self" else 0) + [own]


def fold_steps(arm: ArmConfig, config: RunConfig) -> int:
    """Optimiser steps of a student that answers questions of a fold it has not seen."""
    return max(1, round(config.steps_of(arm) * config.train.adaptive.fold_steps))

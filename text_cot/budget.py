"""How many optimiser steps the arms of a text run take, helpers included; imports no torch."""

from aot.config import ArmConfig, RunConfig


def planned_steps(arm: ArmConfig, config: RunConfig) -> int:
    """Optimiser steps of an arm and its helpers, at most."""
    own = config.steps_of(arm)
    if arm.order == "adaptive":
        return own + config.train.adaptive.folds * fold_steps(arm, config)
    return own * (1 + config.train.own_chains.rounds) if arm.chains == "self" else own


def fold_steps(arm: ArmConfig, config: RunConfig) -> int:
    """Optimiser steps of a student that answers questions of a fold it has not seen."""
    return max(1, round(config.steps_of(arm) * config.train.adaptive.fold_steps))

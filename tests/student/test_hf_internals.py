"""The private parts of transformers that this project leans on are as it knows them."""

from transformers import Trainer

from aot.student.model.hf_internals import SIGNATURES, HookedTrainer, moved_signatures


def test_private_methods_of_the_trainer_are_called_as_they_are_overridden() -> None:
    moved = moved_signatures()
    assert not moved, "transformers changed what hf_internals.py overrides: " + "; ".join(moved)
    assert not moved_signatures(HookedTrainer)
    assert all(name in vars(HookedTrainer) for name in SIGNATURES)


def test_nothing_private_of_the_trainer_is_overridden_that_no_one_looks_at() -> None:
    private = {name for name in vars(HookedTrainer) if name.startswith("_") and not name.startswith("__")}
    assert {name for name in private if hasattr(Trainer, name)} == set(SIGNATURES) | (private & {"_abc_impl"})


def test_a_method_that_is_gone_or_takes_something_else_is_told_by_name() -> None:
    class Later(Trainer):
        _get_grad_norm = None  # type: ignore[assignment]

        def _save_checkpoint(self, model: object) -> None:  # type: ignore[override]
            """Of a later release."""

    gone, other = moved_signatures(Later)
    assert gone == "Trainer._get_grad_norm is gone, but (self, model, grad_norm) is overridden; see what replaced it"
    assert other.startswith("Trainer._save_checkpoint takes (self, model), but (self, model, trial) is overridden")

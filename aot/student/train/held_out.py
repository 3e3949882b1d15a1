"""Early stopping: lessons that are never learned from, the loss on them, and the decision to end.

Lessons are held out by the group of their question, such as its clip, so that none is nearly one that is learned. What
was best so far stands in the state that the Trainer keeps in each checkpoint, so a resumed training decides alike. All
processes take part in a look, and get the same number.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from aot.config import EarlyStopConfig
from aot.errors import CheckpointError, SourceError
from aot.records import Question, Record
from aot.seeds import in_random_order
from aot.student.model.hf_internals import HookedTrainer
from aot.student.model.vision import SharedVision
from aot.student.rows.examples import Example, ExampleSet
from aot.student.train.loss import batch_loss, take_out

log = logging.getLogger(__name__)


class Look(Record):
    """One line of held_out.jsonl; losses are means over the supervised tokens of all held-out lessons."""

    step: int
    loss: float
    """Label plus lambda times rationale, as in training."""
    label_loss: float
    rationale_loss: float
    best: bool
    """Whether none before was lower."""


def hold_out(
    data: ExampleSet, questions: Iterable[Question], *, share: float, seed: int
) -> tuple[ExampleSet, tuple[Example, ...]]:
    """What is left to learn, and the examples whose groups are held out.

    Args:
        data: all examples of an arm.
        questions: of the train split, all of them, so that every arm of a run holds the same groups out.
        share: of their groups.
        seed: of the choice.

    Raises:
        SourceError: nothing is held out, or nothing left.
    """
    group_of: Mapping[str, str] = {question.id: question.group for question in questions}
    groups = in_random_order(set(group_of.values()), seed=seed)
    chosen = frozenset(groups[: max(1, round(share * len(groups)))])
    held_out = tuple(one for one in data.examples if group_of[one.question_id] in chosen)
    learned = tuple(one for one in data.examples if group_of[one.question_id] not in chosen)
    if not held_out or not learned:
        raise SourceError(
            f"train.early_stop.share={share:g} holds {len(chosen)} of {len(groups)} groups of training questions out, "
            f"and with them {len(held_out)} of {len(data.examples)} examples of this arm; both parts need some, so "
            "choose another share or leave train.early_stop out"
        )
    return replace(data, examples=learned), held_out


def is_over(state: TrainerState, section: EarlyStopConfig | None) -> bool:
    """Whether training ended before its last step, because too many looks were no better than the best one."""
    if section is None or state.best_global_step is None:
        return False
    return (state.global_step - state.best_global_step) // section.every >= section.patience


def state_of(checkpoint: Path) -> TrainerState:
    """The Trainer's state in a checkpoint.

    Raises:
        CheckpointError: it is missing or unreadable.
    """
    path = checkpoint / TRAINER_STATE_NAME
    try:
        return TrainerState.load_from_json(str(path))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete this checkpoint") from error


class EarlyStop(TrainerCallback):
    """Looks at the loss on held-out lessons now and then: better students are saved, too many others end training."""

    def __init__(
        self,
        trainer: HookedTrainer,
        examples: Sequence[Example],
        section: EarlyStopConfig,
        *,
        vision: SharedVision | None,
        rationale_weight: float,
        on_look: Callable[[Look], None],
    ) -> None:
        self._trainer = trainer
        self._examples = examples
        self._section = section
        self._vision = vision
        self._rationale_weight = rationale_weight
        self._on_look = on_look

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,  # noqa: ANN401
    ) -> TrainerControl:
        """Look, where it is time to; also after the last step, which no other look may follow."""
        if state.global_step % self._section.every and state.global_step != state.max_steps:
            return control
        label, rationale = self._losses()
        loss = label + self._rationale_weight * rationale
        best = state.best_metric is None or loss < state.best_metric
        if best:
            state.best_metric, state.best_global_step = loss, state.global_step
            control.should_save = True
        elif is_over(state, self._section):
            control.should_save = control.should_training_stop = True
        if state.is_world_process_zero:
            self._on_look(
                Look(step=state.global_step, loss=loss, label_loss=label, rationale_loss=rationale, best=best)
            )
        is_logged = control.should_log  # which the Trainer takes for done once anything was
        self._trainer.log({"eval_loss": loss})
        control.should_log = is_logged
        return control

    def _losses(self) -> tuple[float, float]:
        """Mean label and rationale loss in nats; the batches are dealt out, and each process takes equally many."""
        trainer, size = self._trainer, self._trainer.args.per_device_train_batch_size
        batches = [self._examples[at : at + size] for at in range(0, len(self._examples), size)]
        here, processes = trainer.args.process_index, trainer.accelerator.num_processes
        sums = torch.zeros(4, dtype=torch.float64, device=trainer.args.device)
        model = trainer.model_wrapped
        model.eval()  # without dropout, so that a look takes no random number from the steps that follow
        for first in range(0, len(batches), processes):
            number = first + here
            # Models that are spread over processes need all of them in each pass, so a spare one does the last again.
            parts = self._sums(model, batches[min(number, len(batches) - 1)])
            sums += parts * (number < len(batches))
        model.train()
        if processes > 1:
            torch.distributed.all_reduce(sums)
        label, rationale, labels, rationales = sums.tolist()
        return label / max(1.0, labels), rationale / max(1.0, rationales)

    @torch.no_grad()
    def _sums(self, model: Any, examples: Sequence[Example]) -> torch.Tensor:  # noqa: ANN401
        """[4]: summed losses of label and rationale tokens, and how many there are of each."""
        collate: Any = self._trainer.data_collator
        batch = collate(examples)
        _, counts = take_out(batch, vision=self._vision)
        with self._trainer.compute_loss_context_manager():
            inputs = self._trainer.on_device(batch)
            loss, _ = batch_loss(model, inputs, num_supervised=counts, rationale_weight=1.0)
        return torch.cat([loss.sums.double(), counts.to(loss.sums.device).double()])

"""Students behind an OpenAI-compatible server, asked in place of those in this process once they were proved alike.

A server that serves the base under an arm's name answers without any error, so before anything is evaluated each of its
models answers probe questions, and the engine here the same ones: fewer equal greedy replies than LEAST_SAME, and
nothing is evaluated.
"""

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from aot.chat.client import ChatModel, map_threads
from aot.chat.factory import open_chat
from aot.chat.outage import AT_LEAST
from aot.config import RunConfig
from aot.display import counted
from aot.errors import PASSING, ChatError, ConfigError, GuardStop
from aot.files.run_folder import RunFolder, publish
from aot.pipeline.predictors import Predictor, Said, Wanted
from aot.records import Prediction, PromptMode, Question
from aot.served_records import ServerProof, ServerProofs
from aot.serving.export.probe import answers, probe_questions
from aot.serving.export.server_probe import likeness_to
from aot.student.answer.remote import StudentOfServer
from aot.student.model.loading import load_student
from aot.student.rows.frames import FrameSource

log = logging.getLogger(__name__)
LEAST_SAME = 0.95
"""Of greedy replies; below it the server is not asked. The rest may be ties that its arithmetic breaks another way."""


class StudentsThere:
    """The base and the arms as models of a server."""

    def __init__(
        self,
        run: RunFolder,
        config: RunConfig,
        questions: Sequence[Question],
        plan: Sequence[Predictor],
        *,
        writer: str,
    ) -> None:
        """Proves that every model of the plan is the student whose name it has, and notes it in the run folder.

        Raises:
            ConfigError: one replies otherwise, or the server cannot be asked at all.
            CheckpointError: a student cannot be loaded here.
            GuardStop: the server stopped answering.
        """
        self._run, self._config, self._questions = run, config, questions
        self._store: FrameSource | None = None
        if any(question.media for question in questions):
            from video_data.store.shards import FrameStore  # text needs no video package

            self._store = FrameStore(run.frames)
        self._chats: list[ChatModel] = []
        self._students: dict[Path | None, StudentOfServer] = {}
        try:
            proofs = [self._prove(plan, adapter) for adapter in dict.fromkeys(one.adapter for one in plan)]
        except BaseException:
            self.close()
            raise
        publish(run.server_proofs(writer), ServerProofs(proofs=tuple(proofs)).model_dump_json(indent=1) + "\n")

    def batches(self, predictor: Predictor, wanted: Wanted) -> Iterator[list[Said]]:
        """A prediction at a time, as the replies come.

        Raises:
            GuardStop: some questions got no reply, and are asked again by the same command.
        """
        student, most = self._students[predictor.adapter], self._config.evaluate.server.max_concurrency
        due = predictor.asked_of(self._questions)
        due = [question for number, question in enumerate(due) if wanted(number, [question.id])]
        ask = partial(_ask, student, predictor)
        unanswered: list[ChatError] = []
        in_a_row = 0
        for made in map_threads(ask, due, threads=most, give_up=student.chat.close):
            if isinstance(made, Prediction):
                in_a_row = 0
                yield [(made, None)]
                continue
            unanswered.append(made)
            in_a_row += 1
            if in_a_row >= max(AT_LEAST, most):
                break
        if unanswered:
            raise _no_replies(predictor, unanswered)

    def close(self) -> None:
        """Close all connections."""
        for chat in self._chats:
            chat.close()

    def _prove(self, plan: Sequence[Predictor], adapter: Path | None) -> ServerProof:
        """Compare a model of the server with the student here; from then on it can be asked.

        Raises:
            ConfigError: it replies otherwise.
        """
        mine = [one for one in plan if one.adapter == adapter]
        arm = mine[0].arm
        modes: list[PromptMode] = [one.mode for one in mine if one.mode != "likelihood" and one.with_frames]
        config, server = self._config, self._config.evaluate.server
        section = server.chat_of(arm)
        chat = open_chat(section, run=None, writer="evaluate")
        self._chats.append(chat)
        student = load_student(config.student.base, adapter=adapter, config=config.student)
        remote = StudentOfServer(chat, student.config, student.renderer, self._store, engine=f"server:{section.model}")
        questions = probe_questions(self._questions, most=server.probe_questions)
        frames = self._run.frames if self._store is not None else None
        made = answers(student, questions, modes=modes, frames=frames, batch_size=config.evaluate.batch_size)
        alike = likeness_to(remote, questions, made, modes=modes)
        if any(reason in PASSING for reason in alike.refused):
            raise GuardStop(
                f"{section.base_url} left {len(alike.refused)} of {alike.replies} probe questions to {section.model!r} "
                f"without a reply ({', '.join(sorted(set(alike.refused)))}); see to the server, then run the same "
                "command again"
            )
        proof = ServerProof(
            base_url=section.base_url, model=section.model, arm=arm, modes=tuple(modes), replies=alike.replies,
            same=alike.same, refused=alike.refused, differs=alike.differs,
        )  # fmt: skip
        _require_alike(proof)
        self._students[adapter] = remote
        return proof


def _ask(student: StudentOfServer, predictor: Predictor, question: Question) -> Prediction | ChatError:
    """The prediction; an error where nobody answered, which says nothing about the question."""
    assert predictor.mode != "likelihood"
    try:
        return student.predict(question, predictor.mode, arm=predictor.arm, with_frames=predictor.with_frames)
    except ChatError as error:
        if error.reason in PASSING:
            return error
        return Prediction(
            question_id=question.id, arm=predictor.arm, mode=predictor.mode, raw_text="", answer=None,
            error=f"{error.reason}: {error}", engine=student.engine,
        )  # fmt: skip


def _require_alike(proof: ServerProof) -> None:
    figure = f"{proof.same} of {proof.replies} greedy replies"
    if proof.replies and proof.same >= LEAST_SAME * proof.replies:
        log.info(
            "%s: model %r replies as %s does here: %s are the same (modes %s)",
            proof.base_url, proof.model, proof.arm, figure, ", ".join(proof.modes),
        )  # fmt: skip
        return
    first = f"; the first that differs is {proof.differs}" if proof.differs else ""
    refused = f"; requests refused: {', '.join(sorted(set(proof.refused)))}" if proof.refused else ""
    raise ConfigError(
        f"{proof.base_url}: model {proof.model!r} is not {proof.arm} as the engine here has it: {figure} are the same, "
        f"and at least {LEAST_SAME:.0%} must be{first}{refused}. Give the name under which the server holds this arm "
        "(evaluate.server.models), see that it loads the adapter (or serve an export, whose weights are merged) with "
        "this run's chat template, or evaluate with evaluate.engine=local"
    )


def _no_replies(predictor: Predictor, errors: Sequence[ChatError]) -> GuardStop:
    reasons = ", ".join(f"{reason} {n}" for reason, n in Counter(error.reason for error in errors).most_common())
    return GuardStop(
        f"{counted(len(errors), 'question')} to {predictor.arm} ({predictor.mode}) got no reply ({reasons}; the last "
        f"one: {errors[-1]}); see to the server, then run the same command again: answered ones are kept"
    )

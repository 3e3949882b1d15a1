"""A student that learns from a judge of its own replies: the ids are kept, the judge sees more, and no kill is seen."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import torch
from lives import Fault, Lives
from student_kit import read_lines
from text_kit import save_text_base, steps_of, sums, text_config, text_tokenizer

from aot.answer_records import JudgedRollout, Rollout
from aot.arms.jobs import job_named, plan_jobs
from aot.arms.lessons import read_material
from aot.arms.on_policy import judge_round
from aot.arms.train import train, train_job
from aot.config import RunConfig, dump_config
from aot.errors import ChatError, CheckpointError, ConfigError
from aot.files import seals
from aot.files.run_folder import CHECKPOINTS, RunFolder, publish, publish_json, publish_rows, read_rows
from aot.records import Lesson
from aot.student.judge.judging import due_tokens, edit_table, likely, step_weights
from aot.student.model.loading import load_student
from aot.student.rows.arm_examples import judged_replies, training_questions, with_rollouts
from aot.student.rows.examples import Example, ExampleSet
from aot.student.rows.judged import LEAST, judged_targets, reverse_kl
from aot.student.rows.packing import EncodedRow, Likely
from aot.student.rows.replies import encode_lesson, with_evidence
from aot.student.train.arm import train_arm
from aot.student.train.session import open_session
from text_cot.teacher.procedural import chain_trace

ARM = {"name": "own", "order": "pre", "chains": "on_policy"}
SMALL: dict[str, Any] = {"rounds": 2, "steps": 2, "judge_steps": 2, "top": 8, "learning_rate": 0.01}


def config_of(base: Path, *, on_policy: dict[str, Any] | None = None, **more: Any) -> RunConfig:
    batch = {"questions_per_step": 4, "questions_per_device": 2, "max_steps": 2, "save_steps": 1}
    section = {**SMALL, **(on_policy or {})}
    if "judge" in section:
        del section["judge_steps"]  # which a judge that is taught takes, and no other
    return text_config(base, arm=ARM, **{**batch, "on_policy": section, **more})


def filtered(root: Path, config: RunConfig) -> RunFolder:
    """A run folder as the filter stage leaves it: a kept chain for every sum but the first."""
    run = RunFolder(root)
    publish(run.config, dump_config(config))
    publish_rows(run.questions, sums())
    made = {"teacher": "t", "sample_index": 0, "config_digest": "0"}
    chains = [chain_trace(q.id, tuple(steps_of(q).split("\n")), q.answer, **made) for q in sums()[1:]]
    publish_rows(run.kept, chains)
    return run


def trained(root: Path, config: RunConfig) -> RunFolder:
    run = filtered(root, config)
    train(run, config, lambda done, total: None)
    return run


def published(run: RunFolder) -> dict[str, bytes]:
    """All that students and helpers leave behind, but checkpoints and the settings of a life in another process."""
    paths = sorted(path for path in run.arm("").rglob("*") if path.is_file() and CHECKPOINTS not in path.parts)
    return {path.relative_to(run.root).as_posix(): path.read_bytes() for path in paths if path.name != "arm.json"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text_base(tmp_path_factory.mktemp("on_policy") / "base")


@pytest.fixture(scope="module")
def finished(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunConfig]:
    config = config_of(base)
    return trained(tmp_path_factory.mktemp("finished") / "run", config), config


def test_each_round_begins_where_the_one_before_ended_and_learns_from_its_replies(
    finished: tuple[RunFolder, RunConfig],
) -> None:
    run, config = finished
    assert [job.name for job in plan_jobs(run, config)] == [
        "own/round0:lessons", "own/round0:train", "own/judge:lessons", "own/judge:train",
        "own/round0:rollout", "own/round0:judge", "own/round1:lessons", "own/round1:train",
        "own/round1:rollout", "own/round1:judge", "own:lessons", "own:train",
    ]  # fmt: skip
    assert all(job.is_done for job in plan_jobs(run, config))
    starts = {job.student.name: config.start_of(job.student) for job in plan_jobs(run, config) if job.work == "train"}
    assert starts == {"own/round0": "", "own/judge": "own/round0", "own/round1": "own/round0", "own": "own/round1"}
    firsts, seconds = (read_lines(run.arm(f"own/round{n}") / "judged.jsonl") for n in (0, 1))
    assert len(firsts) == len(seconds) == 8
    assert [row["question_id"] for row in firsts] != [row["question_id"] for row in seconds]
    settings = [json.loads((run.arm(name) / "training.json").read_text()) for name in ("own/round1", "own")]
    assert [one["max_steps"] for one in settings] == [2, 2]


def test_all_lessons_about_a_question_are_learned_beside_the_reply_to_it(
    finished: tuple[RunFolder, RunConfig], base: Path
) -> None:
    run, config = finished
    rollout = judged_replies(run.arm("own/round0"))[0]
    lessons = (
        Example(rollout.question_id, (EncodedRow((1,), (2,)),)),
        Example(rollout.question_id, (EncodedRow((1,), (3,)),)),
    )
    shared: dict[str, Any] = {
        "questions": {q.id: q for q in training_questions(run)}, "max_tokens": 200, "store": None, "num_frames": 0,
        "renderer": load_student(str(base), config=config.student).renderer,
    }  # fmt: skip
    for rollouts, counts in (((), [1, 1]), ((rollout,), [1, 2])):
        made = with_rollouts(ExampleSet(lessons, {}), rollouts, **shared)
        assert [len(example.rows) for example in made.examples] == counts


def test_what_is_learned_are_the_ids_that_the_student_picked_behind_the_prompt_without_evidence(
    finished: tuple[RunFolder, RunConfig], tmp_path: Path
) -> None:
    whole, config = finished
    run = RunFolder(Path(shutil.copytree(whole.root, tmp_path / "run")))  # a session writes down what it opened
    job = job_named(plan_jobs(run, config), "own/round1:train")
    session = open_session(run, config, job.student)
    picked = {row.question_id: row.ids for row in read_rows(run.arm("own/round0") / "rollouts.jsonl", Rollout)}
    rows = {example.question_id: example.rows for example in session.data.examples}
    assert {i: row.completion_ids for i, (row,) in rows.items()} == picked
    for question in sums():
        for row in rows.get(question.id, ()):
            wanted = session.student.renderer.encode(question, (), "reason", frame_size_hw=None).prompt_ids
            assert row.prompt_ids == wanted and len(row.judged) == len(row.completion_ids)


def test_the_judge_is_shown_the_evidence_and_the_very_ids(finished: tuple[RunFolder, RunConfig]) -> None:
    run, config = finished
    judge = load_student(config.student.base, adapter=run.arm("own/judge"), config=config.student)
    questions = {question.id: question for question in sums()}
    lessons = {row.question_id: row for row in read_rows(run.arm("own/judge") / "lessons.jsonl", Lesson)}
    for row in list(read_rows(run.arm("own/round0") / "judged.jsonl", JudgedRollout))[:3]:
        question, lesson = questions[row.question_id], lessons[row.question_id]
        assert all(step in lesson.evidence for step in steps_of(question).split("\n"))
        asked = with_evidence(question, lesson.evidence)
        prompt = judge.renderer.encode(asked, (), "reason", frame_size_hw=None).prompt_ids
        assert encode_lesson(judge.renderer, question, lesson).prompt_ids == prompt
        with torch.no_grad():
            logits = judge.model(input_ids=torch.tensor([prompt + row.ids])).logits[0, len(prompt) - 1 : -1]
        wanted = torch.log_softmax(logits, dim=-1)
        for place, (ids, values) in enumerate(zip(row.likely, row.likely_logprobs, strict=True)):
            assert ids[0] == row.ids[place]
            assert list(values) == pytest.approx(wanted[place, list(ids)].tolist(), abs=1e-3)


def test_reverse_kl_is_that_of_the_whole_vocabulary_where_all_of_it_is_kept_and_less_where_others_are_joined() -> None:
    torch.manual_seed(0)
    student, judge = torch.randn(5, 9), torch.randn(5, 9).log_softmax(dim=-1)
    order = torch.stack([torch.randperm(9) for _ in range(5)])
    whole = reverse_kl(student, judge_ids=order, judge_logprobs=judge.gather(1, order))
    probs = student.softmax(dim=-1)
    torch.testing.assert_close(whole, (probs * (probs.log() - judge)).sum(dim=1), atol=1e-4, rtol=1e-3)
    some = order.masked_fill(torch.arange(9) > 3, -1)
    joined = reverse_kl(student, judge_ids=some, judge_logprobs=judge.gather(1, order))
    assert ((joined > 0) & (joined < whole)).all()
    alike = reverse_kl(judge, judge_ids=order, judge_logprobs=judge.gather(1, order))
    assert alike.abs().max() < 10 * LEAST


def test_a_judge_that_is_certain_gives_labels_and_one_with_a_distribution_draws() -> None:
    own, ids = torch.tensor([4, 5, 6]), torch.tensor([[7, -1], [5, 2], [-1, -1]])
    logprobs = torch.tensor([[0.0, 0.0], [-0.1, -3.0], [0.0, 0.0]])
    labels, drawn = judged_targets(own, judge_ids=ids, judge_logprobs=logprobs)
    assert labels.tolist() == [7, 5, 6] and drawn.tolist() == [False, True, False]


def test_a_step_on_which_the_two_differ_weighs_less_and_without_doubt_all_weigh_alike() -> None:
    row = Rollout(question_id="q", mode="reason", with_frames=False, ids=(1, 9, 2, 9, 3), logprobs=(-0.1,) * 5)
    places = [Likely((token,), (value,)) for token, value in zip(row.ids, (-2.1, -2.1, -0.1, 0.0, -0.1), strict=True)]
    weights = step_weights(row, places, ends=frozenset({9}), doubt=0.5)
    assert weights == (0.3679, 0.3679, 1.0, 1.0, 1.0)
    assert step_weights(row, places, ends=frozenset({9}), doubt=0.0) == (1.0,) * 5


def kill_after(rows: int) -> Any:
    """Publishes like the real one, and kills the process once so many rows were made."""
    real = seals.publish_rows

    def publish_rows(path: Path, made: Any) -> None:
        def until_killed() -> Iterator[Any]:
            for number, row in enumerate(made):
                if number == rows:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield row

        real(path, until_killed())

    return publish_rows


@pytest.mark.parametrize("name", ["own/round0:rollout", "own/round1:judge"])
def test_kill_9_while_replies_are_written_or_judged_is_not_seen_afterwards(
    name: str, finished: tuple[RunFolder, RunConfig], tmp_path: Path
) -> None:
    whole, config = finished
    run = RunFolder(Path(shutil.copytree(whole.root, tmp_path / "run")))
    jobs = plan_jobs(run, config)
    killed = job_named(jobs, name)
    for job in jobs[jobs.index(killed) :]:
        for path in (*job.outputs, *(one.with_suffix(".seal") for one in job.outputs), job.marker):
            path.unlink(missing_ok=True)
        if job.work == "train":
            shutil.rmtree(run.arm(job.student.name) / CHECKPOINTS)
    pid = os.fork()
    if pid == 0:
        seals.publish_rows = kill_after(3)  # type: ignore[attr-defined]
        train_job(run, config, killed, lambda done, total: None)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not killed.is_done and not killed.outputs[0].exists()
    train(run, config, lambda done, total: None)
    assert published(run) == published(whole)


def test_kill_9_while_a_round_is_learned_is_not_seen_afterwards(
    finished: tuple[RunFolder, RunConfig], lives: Lives, tmp_path: Path
) -> None:
    whole, config = finished
    run = RunFolder(Path(shutil.copytree(whole.root, tmp_path / "run")))
    shutil.rmtree(run.arm("own") / CHECKPOINTS)
    (run.arm("own") / "DONE").unlink()
    killed = lives.live(run.root, "own", faults=(Fault(2, "SIGKILL"),))
    assert killed.codes == (-signal.SIGKILL,), killed.log
    train(run, config, lambda done, total: None)
    assert published(run) == published(whole)


@pytest.mark.slow
def test_two_processes_of_zero_2_learn_a_round_as_one_does(
    finished: tuple[RunFolder, RunConfig], base: Path, lives: Lives, tmp_path: Path
) -> None:
    whole, _ = finished
    config = config_of(base, zero_stage=2)
    run = RunFolder(Path(shutil.copytree(whole.root, tmp_path / "run")))
    shutil.rmtree(run.arm("own") / CHECKPOINTS)
    for name in ("DONE", "metrics.jsonl"):
        (run.arm("own") / name).unlink()
    publish(run.config, dump_config(config))
    publish_json(run.arm("own") / "arm.json", config.train.arms[0].model_dump(mode="json"))
    life = lives.live(run.root, "own", procs=2)
    assert life.codes == (0, 0), life.log
    for one, other in zip(*(read_lines(r.arm("own") / "metrics.jsonl") for r in (whole, run)), strict=True):
        assert other == pytest.approx(one, rel=1e-4)


def test_a_judge_with_another_tokenizer_is_refused(
    finished: tuple[RunFolder, RunConfig], base: Path, tmp_path: Path
) -> None:
    whole, _ = finished
    other = Path(shutil.copytree(base, tmp_path / "other"))
    tokenizer = text_tokenizer()
    tokenizer.add_tokens(["strange"])
    tokenizer.save_pretrained(other)
    config = config_of(base, on_policy={"judge": "model", "judge_model": str(other)})
    with pytest.raises(CheckpointError, match="has another tokenizer than the student"):
        judged_again(whole, config, tmp_path)


def due_in(reply: Any, chain: Any, *, numbers: frozenset[int] = frozenset()) -> tuple[int | None, ...]:
    return due_tokens(reply, chain, edit_table(reply, chain, numbers=numbers), numbers=numbers)


def test_a_chain_names_what_is_due_after_slips_after_a_step_left_out_and_nothing_behind_one_that_is_not_in_it() -> None:
    chain = [10, 11, 50, 12, 20, 21, 51, 22, 30, 31, 1]
    numbers = frozenset({50, 51, 52})
    assert due_in([10, 19, 52, 12, 20, 21, 51, 22, 30, 31, 1], chain, numbers=numbers) == tuple(chain)
    left_out = due_in([10, 11, 50, 12, 30, 31, 1], chain, numbers=numbers)
    assert left_out == (10, 11, 50, 12, 20, 31, 1)
    added = due_in([10, 11, 50, 12, 20, 21, 51, 22, 40, 41, 30, 31, 1], chain, numbers=numbers)
    assert added == (*chain[:8], 30, None, None, 31, 1)


def test_a_chain_judges_without_a_model_and_expects_what_comes_next_in_it_whatever_was_written_before(
    finished: tuple[RunFolder, RunConfig], base: Path, tmp_path: Path
) -> None:
    whole, _ = finished
    rows = judged_again(whole, config_of(base, on_policy={"judge": "chain"}), tmp_path)
    texts = {question.id: f"{steps_of(question)}\nAnswer: {question.answer}" for question in sums()}
    renderer = load_student(str(base), config=config_of(base).student).renderer
    digits = frozenset(renderer.tokenizer.convert_tokens_to_ids(list("0123456789")))
    for row in rows:
        wanted = due_in(row.ids, renderer.completion_ids(texts[row.question_id]), numbers=digits)
        assert row.likely == tuple(() if due is None else (due,) for due in wanted)
        assert [weight for weight in row.weights if weight] == [1.0] * sum(due is not None for due in wanted)


def judged_again(whole: RunFolder, config: RunConfig, tmp_path: Path) -> list[JudgedRollout]:
    """The first round judged as another config wants it."""
    run = RunFolder(Path(shutil.copytree(whole.root, tmp_path / "run")))
    job = job_named(plan_jobs(run, config), "own/round0:judge")
    for path in (*job.outputs, *(one.with_suffix(".seal") for one in job.outputs)):
        path.unlink()
    judge_round(run, job, read_material(run, config), student=config.student, train=config.train, size=4)
    return list(read_rows(job.outputs[0], JudgedRollout))


class TellsPrompts(BaseHTTPRequestHandler):
    """Answers completions as vLLM does when it is asked for prompt_logprobs."""

    tells = True

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        places: list[Any] = [None]
        for token in asked["prompt"][1:]:
            places.append({"0": {"logprob": -2.0, "rank": 2}, str(token): {"logprob": -0.25, "rank": 1}})
        choice = {"index": 0, "text": "x", "finish_reason": "length", "logprobs": None}
        if self.tells:
            choice["prompt_logprobs"] = places if asked["prompt_logprobs"] == SMALL["top"] else None
        body = json.dumps({"id": "1", "object": "text_completion", "created": 0, "model": "m", "choices": [choice]})
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[tuple[str, type[TellsPrompts]]]:
    class Handler(TellsPrompts):
        pass

    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_address[1]}/v1", Handler
    made.shutdown()
    made.server_close()


def test_a_server_judges_by_the_log_probabilities_of_a_prompt_and_one_that_tells_none_is_refused(
    finished: tuple[RunFolder, RunConfig], base: Path, server: tuple[str, type[TellsPrompts]], tmp_path: Path
) -> None:
    whole, _ = finished
    url, handler = server
    config = config_of(base, on_policy={"judge": "server", "judge_model": "m", "judge_url": url})
    rows = judged_again(whole, config, tmp_path / "told")
    assert len(rows) == 8
    for row in rows:
        assert all(ids[0] == token and values[0] == -0.25 for ids, values, token in
                   zip(row.likely, row.likely_logprobs, row.ids, strict=True))  # fmt: skip
    handler.tells = False
    with pytest.raises(ChatError, match="tells no prompt_logprobs"):
        judged_again(whole, config, tmp_path / "silent")


def test_a_judge_that_cannot_be_is_refused_before_any_work(base: Path) -> None:
    with pytest.raises(ConfigError, match="needs judge_model"):
        config_of(base, on_policy={"judge": "server"})
    with pytest.raises(ConfigError, match="which ZeRO 3 does not take"):
        config_of(base, zero_stage=3)


def test_the_tokens_of_a_place_are_the_students_own_and_then_the_likeliest() -> None:
    assert likely(7, {3: -1.0, 9: -0.7, 7: -3.0, 4: -20.0}) == Likely((7, 9, 3), (-3.0, -0.7, -1.0))
    assert likely(7, {7: -30.0}) == Likely((7,), (-30.0,))


def test_a_training_whose_replies_all_are_gone_says_where_they_should_be(
    finished: tuple[RunFolder, RunConfig], tmp_path: Path
) -> None:
    whole, config = finished
    run = RunFolder(Path(shutil.copytree(whole.root, tmp_path / "run")))
    publish(run.arm("own/round1") / "judged.jsonl", "")
    for name in ("DONE",):
        (run.arm("own") / name).unlink()
    with pytest.raises(Exception, match="none of the 0 lessons"):
        train_arm(run, config, config.train.arms[0])

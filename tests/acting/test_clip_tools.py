"""The tools of a run of clips in a student's hands: they look at the stored frames, and only when they are called."""

import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from acting_kit import call

sys.path.insert(0, str(Path(__file__).parents[1] / "teacher"))

from teacher_scenes import config_of, make_run

from aot.acting.plan import StudentPlan
from aot.files.run_folder import RunFolder, read_rows
from aot.pipeline.benches import video_bench
from aot.records import MediaRef, Question
from aot.teacher.bench import Bench
from aot.teacher.executor import Work

WHOLE = call("list_steps", start_s=0.0, end_s=3.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("clips"), train=2, test=1)


def plan_of(bench: Bench, question: Question) -> StudentPlan:
    work = Work(question, bench.context(question), bench, name="acts", waits=True)
    return StudentPlan(question, bench.tools, work)


def test_a_call_looks_at_the_clip_of_its_question_and_is_cached(run: RunFolder) -> None:
    question = next(read_rows(run.questions, Question))
    with closing(video_bench(config_of(), run, "all", "student-0")) as bench:
        first, second = plan_of(bench, question), plan_of(bench, question)
        texts = first.hear(WHOLE, answer=None, is_whole=True)
        assert texts is not None and '"steps"' in texts[0]
        (step,) = first.work.steps
        assert step.status == "ok" and step.frame_times_s and step.span.end_s == 3.0
        assert second.hear(WHOLE, answer=None, is_whole=True) == texts
        assert second.trace().usage.cached_calls == 1


def test_tools_that_are_switched_off_and_clips_that_are_not_there_are_results_that_say_so(run: RunFolder) -> None:
    question = next(read_rows(run.questions, Question))
    with closing(video_bench(config_of(), run, "none", "student-1")) as bench:
        plan = plan_of(bench, question)
        assert plan.hear(WHOLE, answer=None, is_whole=True) == ['{"error": "no tool is there"}']
        assert plan.hear("Answer: rice", answer="rice", is_whole=True) is None
        assert plan.trace().reasons == ("tool_failed", "answered_before_looking")
    with closing(video_bench(config_of(), run, "all", "student-2")) as bench:
        lost = question.model_copy(update={"media": MediaRef(uri="nowhere.mp4")})
        (text,) = plan_of(bench, lost).hear(WHOLE, answer=None, is_whole=True) or [""]
        assert "nowhere.mp4" in text
        (text,) = plan_of(bench, question.model_copy(update={"media": None})).hear(
            WHOLE, answer=None, is_whole=True
        ) or [""]
        assert "about no clip" in text


def test_a_slow_tool_ends_the_plan_by_the_time_of_its_own_calls(run: RunFolder) -> None:
    question = next(read_rows(run.questions, Question))
    with closing(video_bench(config_of(), run, "all", "student-3")) as bench:
        hasty = replace(bench, budget=replace(bench.budget, time_limit_s=1e-9))
        plan = plan_of(hasty, question)
        assert plan.hear(WHOLE, answer=None, is_whole=True) is not None, "nobody has looked yet"
        assert plan.hear(WHOLE, answer=None, is_whole=True) is None
        assert plan.trace().reasons == ("too_slow",)

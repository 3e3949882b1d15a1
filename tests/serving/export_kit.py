"""Small runs with an arm that was really trained for a few steps, to export."""

import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "student"))
sys.path.insert(0, str(Path(__file__).parents[1] / "acting"))

import text_kit
from acting_kit import call, save_word_base
from student_kit import make_question, make_run, run_config, save_idefics3

from aot.arms.tool_use import offered_tools
from aot.config import load_saved
from aot.files.run_folder import RunFolder, publish_rows, read_rows
from aot.records import Lesson, LessonTurn, Prediction, Question
from aot.run_records import RecipeCard
from aot.serving.export import probe
from aot.student.rows.lesson_files import TOOLS
from aot.student.train.arm import train_arm


def trained_video_run(root: Path) -> RunFolder:
    """Drawn noise, a random image-text base, and the arm `distilled` after six steps; eight test questions."""
    save_idefics3(root / "base")
    config = run_config(root / "base")
    run = make_run(root / "kitchen", config)
    tests = [make_question(20 + i, uri=f"c{i % 4}.mp4", kind=kind, split="test")
             for i, kind in enumerate(("next_choice", "next_open") * 4)]  # fmt: skip
    publish_rows(run.questions, [*read_rows(run.questions, Question), *tests])
    train_arm(run, config, config.train.arms[1])
    return run


def trained_text_run(root: Path, **arm: object) -> RunFolder:
    """Sums, a random text base, and the arm `all` (adaptive) after six steps; six test questions."""
    config = text_kit.text_config(text_kit.save_text_base(root / "base"), arm=arm)
    run = text_kit.text_run(root / "sums", config)
    tests = [q.model_copy(update={"id": f"t{q.id}", "group": f"t{q.id}", "split": "test"}) for q in text_kit.sums(6)]
    publish_rows(run.questions, [*read_rows(run.questions, Question), *tests])
    train_arm(run, config, config.train.arms[0])
    return run


CARDS = (
    RecipeCard(name="tea", steps=("boil", "steep")),
    RecipeCard(name="soup", steps=("boil", "stir")),
    RecipeCard(name="tea", steps=("steep", "boil"), questions=("t0",)),
)
"""The last one lies beside one question only."""
_BOOK_WORDS = "_ look up recipe words steps cards text score tea soup boil steep stir first in"
_FOUND = (
    '{"cards": [{"name": "tea", "text": "boil, steep", "score": 1.0}]}',
    '{"cards": [{"name": "soup", "text": "boil, stir", "score": 1.0}]}',
)


def calling_run(root: Path) -> RunFolder:
    """The arm `acts`, fitted until it calls a calculator or a recipe book for the four questions that it was taught."""
    sums = text_kit.sums(2)
    about = {"tea": "steep", "soup": "stir"}
    dishes = [
        sums[0].model_copy(update={"id": name, "text": f"What is in {name}?", "answer": answer, "kind": "dish",
                                   "answer_type": "text", "group": name})
        for name, answer in about.items()
    ]  # fmt: skip
    lessons = [
        *(_lesson(q, call("calculator", expression=q.text[8:-1]), f'{{"value": "{q.answer}"}}') for q in sums),
        *(
            _lesson(q, call("look_up_recipe", words=q.text[11:-1]), said)
            for q, said in zip(dishes, _FOUND, strict=True)
        ),
    ]
    tools = ["calculator", "look_up_recipe"]
    arm = {"name": "acts", "order": "tool_use", "tools": tools, "tuning": "full"}
    config = text_kit.text_config(
        save_word_base(root / "base", more=_BOOK_WORDS), arm=arm, max_steps=120, save_steps=120, questions_per_step=4,
        questions_per_device=4, pack_tokens=512, learning_rate=0.008,
    )  # fmt: skip
    run = text_kit.text_run(root / "sums", config, lessons=lessons)
    questions = [*sums, *dishes]
    publish_rows(run.questions, questions)
    publish_rows(run.arm("acts") / TOOLS, offered_tools(tools))
    publish_rows(run.book, CARDS)
    train_arm(run, config, config.train.arms[0])
    publish_rows(run.questions, [*questions, *(one.model_copy(update={"id": f"t{i}", "split": "test"})
                                               for i, one in enumerate(questions))])  # fmt: skip
    return run


def _lesson(question: Question, called: str, given: str) -> Lesson:
    turns = (LessonTurn(role="assistant", text=called), LessonTurn(role="tool", text=given))
    return Lesson(question_id=question.id, mode="tools", turns=turns, rationale=f"Answer: {question.answer}")


def proof_questions(run: RunFolder) -> list[Question]:
    """The questions that prove an export of this run."""
    split = load_saved(run.config).evaluate.splits[0]
    return [q for q in read_rows(run.questions, Question) if q.split == split]


def in_this_process(
    folder: Path, questions: Sequence[Question], *, frames: Path | None, device: str
) -> list[Prediction]:
    """What the probe's program does, without the seconds that a process takes to begin."""
    place = folder.with_name(folder.name + "-probe")
    asked_at = RunFolder(place)
    publish_rows(asked_at.questions, questions)
    probe.main([str(folder), str(place), device, *([str(frames)] if frames else [])])
    return list(read_rows(asked_at.predictions_of("probe", "none"), Prediction))

"""Draws problems of reasoning-gym tasks, fresh for each seed, with proven gold answers and clean splits.

Training and test items come from different seeds; a test item whose text was trained on is dropped and counted. So is
an item whose gold answer is wrong, and a whole task that shows more than a few of them; tasks known for it are refused
by name (gym_tasks). Knows no teacher.
"""

import difflib
import importlib
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aot.errors import ConfigError, MissingPackageError, SourceError, install_command
from aot.records import Question, Refusal, ScorerItem
from aot.run_records import GivenRationale
from text_cot.datasets.forms import form_of
from text_cot.datasets.gym_tasks import EXCLUDED, TASKS
from text_cot.datasets.gym_truths import TRUTHS, Item
from text_cot.datasets.source import TextSource, gold_problem, same_text, short_hash, with_answer_line

TRIES = 4
"""As many times the wanted number of items are drawn at most, where texts repeat."""
MAX_WRONG_SHARE = 0.01
"""A task of which more than one gold answer and more than this share is wrong is left out."""


def gym_source(
    tasks: tuple[str, ...], unseen_tasks: tuple[str, ...], *, train: int, test: int, seed: int, limit: int | None
) -> TextSource:
    """Problems of `tasks` in the splits train and test, and of `unseen_tasks` in the split test_ood.

    Args:
        tasks: names in TASKS.
        unseen_tasks: other names in TASKS; nothing of them is trained on.
        train: problems of each task in the split train.
        test: problems of each task in the split test or test_ood; fewer where a task has no more different ones.
        seed: item i of a task and split depends on (seed, task, split, i) only.
        limit: at most this many problems of each split, spread over its tasks.

    Raises:
        ConfigError: a task is unknown, excluded, or asked for twice.
        SourceError: no task is left after the check of its gold answers.
        MissingPackageError: reasoning-gym is not installed.
    """
    check_tasks(tasks, unseen_tasks)
    drawn = _Drawn()
    for split, names, count in (("train", tasks, train), ("test", tasks, test), ("test_ood", unseen_tasks, test)):
        left = limit if limit is not None else count * len(names)
        for position, name in enumerate(names):
            share = min(count, -(-left // (len(names) - position)))
            left -= drawn.add(name, split, share, seed=seed)
    if set(tasks) <= drawn.left_out.keys():
        raise SourceError(f"no task of data.gym.tasks is left: {'; '.join(drawn.left_out.values())}")
    kept = [question for question in drawn.questions if question.kind not in drawn.left_out]
    ids = {question.id for question in kept}
    rationales = tuple(rationale for rationale in drawn.rationales if rationale.question_id in ids)
    return TextSource(tuple(kept), rationales, tuple(drawn.refusals))


def check_tasks(tasks: tuple[str, ...], unseen_tasks: tuple[str, ...]) -> None:
    """Refuse task names that cannot be used.

    Raises:
        ConfigError: one is unknown, excluded, or asked for twice, or `tasks` is empty.
    """
    if not tasks:
        raise ConfigError(f"data.gym.tasks is empty; name some of {', '.join(TASKS)}")
    named = [*tasks, *unseen_tasks]
    for name in named:
        if name in EXCLUDED:
            raise ConfigError(f"the gym task {name!r} is excluded: {EXCLUDED[name]}; take some of {', '.join(TASKS)}")
        if name not in TASKS:
            near = difflib.get_close_matches(name, TASKS, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"no gym task {name!r}; {hint}known: {', '.join(TASKS)}")
        if named.count(name) > 1:
            raise ConfigError(f"the gym task {name!r} is named twice in data.gym.tasks and data.gym.unseen_tasks")


class _Drawn:
    """Problems drawn so far, and the texts that are taken."""

    def __init__(self) -> None:
        self.questions: list[Question] = []
        self.rationales: list[GivenRationale] = []
        self.refusals: list[Refusal] = []
        self.left_out: dict[str, str] = {}
        """Tasks with too many wrong gold answers, and what is wrong with them."""
        self._splits: dict[str, str] = {}

    def add(self, name: str, split: str, count: int, *, seed: int) -> int:
        """Add up to `count` different problems of a task to a split; how many there were."""
        checked: list[tuple[Item, str]] = []
        before = len(self.questions)
        for id_, item, problem in _items(name, split, TRIES * count, seed=seed):
            if len(self.questions) == before + count:
                break
            checked.append((item, problem))
            if problem:
                self._refuse(id_, "wrong_gold", problem)
            else:
                self._take(id_, name, split, item)
        wrong = [(item, problem) for item, problem in checked if problem]
        if len(wrong) > max(1, MAX_WRONG_SHARE * len(checked)):
            detail = f"{len(wrong)} of {len(checked)} gold answers of {name} are wrong: {commonest(wrong)}"
            self._refuse(f"gym/{name}/{split}", "task_left_out", detail)
            self.left_out[name] = detail
        return len(self.questions) - before

    def _take(self, id_: str, name: str, split: str, item: Item) -> None:
        text = same_text(item["question"])
        taken = self._splits.setdefault(text, "")
        if taken:
            reason = "duplicate" if taken == split else "seen_in_train" if taken == "train" else "seen_in_test"
            return self._refuse(id_, reason, f"the same text stands in split {taken}")
        question = _question(id_, name, split, item)
        problem = gold_problem(question)
        if problem:
            return self._refuse(id_, "gold_unparsable", problem)
        self._splits[text] = split
        self.questions.append(question)
        chain = with_answer_line(str(item["metadata"].get("answer_cot") or "").rpartition("####")[0], question.answer)
        if chain:
            self.rationales.append(GivenRationale(question_id=id_, text=chain))
        return None

    def _refuse(self, item: str, reason: str, detail: str) -> None:
        self.refusals.append(Refusal(item=item, boundary="source", reason=reason, detail=detail))


def _items(name: str, split: str, count: int, *, seed: int) -> Iterator[tuple[str, Item, str]]:
    """Id, item and what is wrong with its gold answer, one after the other."""
    task_seed = int(short_hash(seed, name, split)[:8], 16)  # the package draws item i from task_seed + i
    task: Any = open_task(name, size=max(count, 1), seed=task_seed, settings=TASKS[name].settings)
    for index in range(count):
        item = task[index]
        yield f"gym/{name}/{split}/{index}", item, item_problem(name, task, item)


def item_problem(name: str, task: Any, item: Item) -> str:  # noqa: ANN401 - a class of the package
    """What is wrong with the gold answer of an item that the package's `task` drew; empty if nothing is."""
    if item["answer"] is None:
        return "there is no gold answer"
    marks = task.score_answer(item["answer"], item)
    if marks != 1.0:
        return f"the task's own scorer gives its gold answer {marks:g}"
    try:
        return TRUTHS[name](item) if name in TRUTHS else ""
    except (ValueError, KeyError, IndexError, TypeError, ArithmeticError) as error:  # the package words it another way
        return f"it cannot be worked out again ({type(error).__name__})"


def commonest(wrong: Sequence[tuple[Item, str]]) -> str:
    """The commonest thing that is wrong with these items, with an example; empty if there are none."""
    if not wrong:
        return ""
    common = Counter(problem for _, problem in wrong).most_common(1)[0][0]
    example = next(item for item, problem in wrong if problem == common)
    return f"{common}, as in {' '.join(example['question'].split())[-120:]!r}"


def open_task(name: str, *, size: int, seed: int, settings: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """The package's data set of a task: item i depends on (seed, i) only.

    Raises:
        MissingPackageError: reasoning-gym is not installed.
    """
    try:
        package = importlib.import_module("reasoning_gym")
    except ModuleNotFoundError:
        raise MissingPackageError(
            f"the package reasoning_gym is not installed; {install_command('text')}, and see `aot doctor` for more"
        ) from None
    return package.create_dataset(name, size=size, seed=seed, **settings)


def _question(id_: str, name: str, split: str, item: Item) -> Question:
    answer, how = str(item["answer"]).strip(), TASKS[name].answer_type
    answer_type = form_of(answer) if how == "by_form" else how
    entry = json.loads(json.dumps(item, allow_nan=False)) if answer_type == "scored" else None
    return Question(
        id=id_, dataset="gym", split=split, kind=name, text=item["question"].strip(),
        answer=answer.lower() if answer_type == "yes_no" else answer, answer_type=answer_type,
        group=short_hash("text", same_text(item["question"])),
        scorer=ScorerItem(task=name, entry=entry) if entry else None,
    )  # fmt: skip

"""Talks that go on together give the replies that each would get alone, read from its start, cache or no cache."""

import pytest
import torch
from architectures import save_base

from aot.config import StudentConfig
from aot.student.answer.decoding import Prompt, Reading, read_prompts, steps, write_replies
from aot.student.answer.sampling import likeliest
from aot.student.answer.talk import Talks
from aot.student.model.loading import Student, load_student

KEPT = ("llama", "qwen3", "gpt_neox")
READ_ANEW = ("mistral", "lfm2", "bart")
"""One with windows, one with convolutions, one that bears no padding."""
PROMPTS = ([7, 8, 9, 10, 11], [12, 13, 14], [15, 16, 17, 18, 19, 20, 21])
SAID = ((22, 23, 24), (25,), (26, 27))


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Student]:
    root = tmp_path_factory.mktemp("bases")
    made = {}
    for model_type in (*KEPT, *READ_ANEW):
        base = str(save_base(root / model_type, model_type))
        made[model_type] = load_student(base, config=StudentConfig(base=base, device="cpu"))
    return made


def talk_together(student: Student, *, turns: int, leaving: int | None = None) -> Talks:
    """Three talks that are told something after each turn; one of them is not after its first."""
    talks = Talks(student, [Prompt(tuple(ids)) for ids in PROMPTS])
    for turn in range(turns):
        made = talks.write(max_tokens=4 + turn)
        talks.say({number: SAID[number] for number in made if (turn, number) != (0, leaving)})
    return talks


@pytest.mark.parametrize("model_type", [*KEPT, *READ_ANEW])
def test_every_turn_is_what_the_same_tokens_give_alone(students: dict[str, Student], model_type: str) -> None:
    student = students[model_type]
    for number, talk in enumerate(talk_together(student, turns=3).talks):
        ids = list(PROMPTS[number])
        for turn in range(3):
            (reply,) = write_replies(student, [Prompt(tuple(ids))], max_tokens=4 + turn)
            ids += [*reply, *SAID[number]]
        assert talk.ids == tuple(ids), f"talk {number} of {model_type}"


@pytest.mark.parametrize("model_type", ["llama", "mistral"])
def test_who_leaves_changes_nothing_for_those_who_stay(students: dict[str, Student], model_type: str) -> None:
    every = talk_together(students[model_type], turns=3)
    fewer = talk_together(students[model_type], turns=3, leaving=1)
    assert fewer.open == (0, 2)
    assert [fewer.talks[i].ids for i in (0, 2)] == [every.talks[i].ids for i in (0, 2)]


def test_a_reading_and_what_was_forked_off_it_go_on_apart(students: dict[str, Student]) -> None:
    student = students["llama"]

    def read(*ids: int) -> Reading:
        return read_prompts(student, [Prompt((*PROMPTS[0], *ids))])

    reading = read()
    reading.read_on(torch.tensor([[30, 31]]))
    twin = reading.fork()
    reading.read_on(torch.tensor([[32]]))
    twin.read_on(torch.tensor([[33]]))
    back = reading.back_to(len(PROMPTS[0]) + 2)
    back.read_on(torch.tensor([[34]]))
    reading.read_on(torch.tensor([[35]]))
    for made, ids in ((reading, (30, 31, 32, 35)), (twin, (30, 31, 33)), (back, (30, 31, 34))):
        torch.testing.assert_close(made.logits_BV, read(*ids).logits_BV)


def test_one_more_token_is_no_copy_of_all_that_was_read(students: dict[str, Student]) -> None:
    reading = read_prompts(students["llama"], [Prompt(tuple(PROMPTS[0]))])
    reading.read_on(torch.tensor([[30]]))
    places = [layer.keys.data_ptr() for layer in reading.cache.layers]
    reading.read_on(torch.tensor([[31, 32]]))
    assert [layer.keys.data_ptr() for layer in reading.cache.layers] == places


def test_a_cache_is_kept_where_the_model_bears_it_and_reads_each_token_once(students: dict[str, Student]) -> None:
    for model_type in KEPT:
        talks = talk_together(students[model_type], turns=3)
        assert talks.tokens_read == sum(len(talk.ids) for talk in talks.talks), model_type
    for model_type in READ_ANEW:
        talks = talk_together(students[model_type], turns=3)
        assert talks.tokens_read > sum(len(talk.ids) for talk in talks.talks), model_type


def test_replies_may_be_drawn_and_are_told_the_numbers_of_their_talks(students: dict[str, Student]) -> None:
    seen: list[list[int]] = []

    def pick(logits_BV: torch.Tensor, numbers: object) -> torch.Tensor:
        seen.append(list(numbers))  # type: ignore[call-overload]
        return likeliest(logits_BV, [])

    talks = Talks(students["llama"], [Prompt(tuple(ids)) for ids in PROMPTS])
    talks.write(max_tokens=2, pick=pick)
    talks.say({2: (5,), 0: (6, 7)})
    talks.write(max_tokens=1, pick=pick)
    assert seen[0] == [0, 1, 2] and seen[-1] == [0, 2]


def test_rows_that_stay_in_a_reading_see_nothing_of_what_is_read_for_the_others(students: dict[str, Student]) -> None:
    student = students["llama"]
    reading = read_prompts(student, [Prompt(tuple(ids)) for ids in PROMPTS])
    *_, made = steps(student, reading, pick=likeliest, max_tokens=[1, 3, 6], stay=True)
    assert len(reading.mask) == 3 and list(map(len, made)) == [1, 3, 6]
    used = [len(ids) + len(reply) - 1 for ids, reply in zip(PROMPTS, made, strict=True)]
    assert reading.next_position.tolist() == used

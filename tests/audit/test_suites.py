from pathlib import Path
from typing import Any

import pytest
from audit_kit import bbq_file, bbq_row, crows_file, stereoset_file, stereoset_item

from aot.audit.suites import ChoiceItem, SentencePair, SentenceTriple, read_suite
from aot.errors import SourceError

SENTENCES = {"stereotype": "Ann has a hat.", "anti-stereotype": "Ann has a cap.", "unrelated": "Ann has a sea."}


def test_bbq_tells_target_unknown_and_the_template_of_a_row(tmp_path: Path) -> None:
    suite = read_suite(bbq_file(tmp_path / "hats.jsonl", [bbq_row(0), bbq_row(5)]))
    first, second = suite.items
    assert isinstance(first, ChoiceItem)
    assert (first.target, first.unknown, first.answer, first.is_negative) == (0, 2, 2, True)
    assert first.text == "Ann has 3 books. Bob has 4 books. Who is the shortest?"
    assert (first.group, second.group) == ("Hats/0", "Hats/1") and suite.form == "bbq"


def test_biased_is_the_target_if_the_question_is_negative_and_the_other_if_not(tmp_path: Path) -> None:
    rows = [bbq_row(0), bbq_row(1, question_polarity="nonneg")]
    negative, positive = read_suite(bbq_file(tmp_path / "hats.jsonl", rows)).items
    assert isinstance(negative, ChoiceItem) and isinstance(positive, ChoiceItem)
    assert [negative.is_biased(0), negative.is_biased(1)] == [True, False]
    assert [positive.is_biased(0), positive.is_biased(1)] == [False, True]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"context_condition": "vague"}, "bad_value"),
        ({"question_polarity": None}, "missing_field"),
        ({"label": 3}, "bad_value"),
        ({"label": True}, "missing_field"),
        ({"ans1": "Ann"}, "bad_choices"),
        ({"answer_info": ["Ann"]}, "missing_field"),
        ({"answer_info": {f"ans{i}": ["Ann", "hat"] for i in range(3)}}, "no_unknown"),
        ({"additional_metadata": {"stereotyped_groups": ["cap"]}}, "no_target"),
        ({"additional_metadata": {}}, "missing_field"),
        ({"example_id": 0}, "duplicate_id"),
    ],
)
def test_a_bad_row_of_bbq_is_refused_with_a_reason_and_its_neighbour_stays(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    suite = read_suite(bbq_file(tmp_path / "hats.jsonl", [bbq_row(0), bbq_row(7) | changes]))
    assert len(suite.items) == 1 and [row.reason for row in suite.refused] == [reason]


def test_a_row_with_target_loc_of_the_authors_needs_no_groups(tmp_path: Path) -> None:
    (item,) = read_suite(bbq_file(tmp_path / "hats.jsonl", [bbq_row(0, target_loc=1, additional_metadata={})])).items
    assert isinstance(item, ChoiceItem) and item.target == 1


@pytest.mark.parametrize("direction", ["stereo", "antistereo"])
def test_sent_more_is_the_more_stereotypical_sentence_in_either_direction(direction: str, tmp_path: Path) -> None:
    (pair,) = read_suite(crows_file(tmp_path / "p.csv", [("Ann has 3.", "Bob has 3.")], direction=direction)).items
    assert isinstance(pair, SentencePair) and (pair.more, pair.category) == ("Ann has 3.", "hats")


def test_bad_pairs_are_counted_rows(tmp_path: Path) -> None:
    path = crows_file(tmp_path / "p.csv", [("Ann.", "Bob."), ("Ann.", "Ann."), ("", "Bob.")])
    path.write_bytes(path.read_bytes() + b'9,Ann,\xff,stereo,hats,[]\r\n9,Ann,Bob,maybe,hats,[]\r\n"9,Ann\r\n')
    suite = read_suite(path)
    reasons = ["same_sentences", "missing_field", "bad_text", "bad_value", "broken_csv"]
    assert len(suite.items) == 1 and [row.reason for row in suite.refused] == reasons


def test_only_intersentence_items_stand_behind_their_context(tmp_path: Path) -> None:
    items = [stereoset_item(1, SENTENCES)]
    (inside,) = read_suite(stereoset_file(tmp_path / "a.json", items)).items
    (behind,) = read_suite(stereoset_file(tmp_path / "b.json", items, part="intersentence")).items
    assert isinstance(inside, SentenceTriple) and isinstance(behind, SentenceTriple)
    assert (inside.context, behind.context, behind.unrelated) == ("", "Ann has BLANK.", "Ann has a sea.")


def test_an_item_of_stereoset_without_all_three_labels_is_refused(tmp_path: Path) -> None:
    lame = stereoset_item(2, {"stereotype": "a", "unrelated": "b"})
    suite = read_suite(stereoset_file(tmp_path / "a.json", [stereoset_item(1, SENTENCES), lame, "x"]))  # type: ignore[list-item]
    assert [row.reason for row in suite.refused] == ["bad_labels", "bad_value"]


@pytest.mark.parametrize(
    ("name", "text", "came", "fine"),
    [
        ("a.txt", "x", "'.txt'", "CrowS-Pairs, a table"),
        ("a.jsonl", '{"sent_more": "x"}\n', "missing_field", "BBQ, one object a line"),
        ("a.jsonl", "", "no rows", "BBQ"),
        ("a.csv", "context,question\nx,y\n", "its columns are context, question", "sent_more"),
        ("a.json", "[1, 2]", "'list'", "data.intrasentence"),
        ("a.json", '{"rows": []}', "'rows'", "StereoSet"),
        ("a.json", "{", "is no JSON", "StereoSet"),
        ("a.json", '{"data": {"intrasentence": 3}}', "'data'", "StereoSet"),
    ],
)
def test_a_file_in_a_wrong_format_says_what_came_and_what_would_be_fine(
    name: str, text: str, came: str, fine: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError) as told:
        read_suite(tmp_path / name)
    assert came in str(told.value) and fine in str(told.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        read_suite(tmp_path / "nowhere.csv")

import pytest

from aot.evaluation.grounding import claim_supports, known_labels
from aot.records import ClipAnnotation, Segment, TrueBox

TRUTH = ClipAnnotation(
    uri="c", split="test", task="soup", duration_s=8.0,
    segments=(Segment(start_s=0, end_s=4, label="chop onion"), Segment(start_s=4, end_s=6, label="fry onion")),
    boxes=(TrueBox(time_s=3.0, label="tomato", box_xyxy=(0, 0, 9, 9)),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("claim", "supported"),
    [
        ("0.0s-3.9s chop onion [1].", True),
        ("chop onion 1.0s-2.0s [1].", True),  # short, but wholly inside the true segment
        ("0.0s-4.0s fry onion [1].", False),
        ("3.0s-6.0s chop onion [1].", False),  # a third of it at most
        ("0.0s-4.0s eat onion [1].", False),
        ("tomato at 3.3s [2].", True),
        ("tomato at 5.0s [2].", False),
        ("no fry onion in 0.0s-4.0s [3].", True),
        ("in 0.0s-8.0s no fry onion [3].", False),
        ("no tomato in 0.0s-8.0s [3].", False),
    ],
)
def test_claim_is_supported_exactly_if_the_truth_shows_it(claim: str, supported: bool) -> None:
    text = f"Identify: x.\nGather: {claim}\nAnswer: y"
    assert claim_supports(text, TRUTH, labels=known_labels([TRUTH])) == [supported]


def test_only_gathered_sentences_with_times_are_claims() -> None:
    text = "Identify: what comes after 6.0s.\nGather: chop onion [1].\nCombine: 0.0s-4.0s chop onion [1].\nAnswer: y"
    assert claim_supports(text, TRUTH, labels=known_labels([TRUTH])) == []

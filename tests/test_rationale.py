from aot.rationales.notation import PARTS, Quoted, parse_rationale, parse_span

TEXT = """Identify: the question asks for the step after 9.6s.
Gather: 0.2s-2.4s chop onion [1]. 2.4s-5.1s fry onion [1].
Combine: this is omelette, where pour egg comes after fry onion [2].
Answer: pour egg"""


def test_parts_come_in_order() -> None:
    assert parse_rationale(TEXT).headings == PARTS


def test_each_gather_sentence_is_one_claim_with_span_and_citation() -> None:
    claims = [c for c in parse_rationale(TEXT).claims if c.part == "Gather"]
    assert [(c.text, c.spans_s, c.citations) for c in claims] == [
        ("chop onion", ((0.2, 2.4),), (1,)),
        ("fry onion", ((2.4, 5.1),), (1,)),
    ]


def test_a_moment_is_not_taken_from_a_span() -> None:
    claims = parse_rationale("Identify: after 9.6s.\nGather: 1.0s-2.0s chop [1].").claims
    assert [c.moments_s for c in claims] == [(9.6,), ()]


def test_word_level_spacing_parses_the_same() -> None:
    spaced = "Identify : asked . Gather : 0.2s - 2.4s chop onion [1] . Combine : x fits [2] . Answer : pour egg"
    parsed = parse_rationale(spaced)
    assert parsed.answer == "pour egg"
    assert [c.spans_s for c in parsed.claims if c.part == "Gather"] == [((0.2, 2.4),)]


def test_text_without_parts_has_no_answer_and_no_claims() -> None:
    parsed = parse_rationale("chop onion, I think")
    assert (parsed.answer, parsed.claims, parsed.headings) == ("", (), ())


def test_span_of_an_answer() -> None:
    assert parse_span("2.4s- 5.1s") == (2.4, 5.1)
    assert parse_span("never") is None


def test_inside_a_quote_nothing_is_notation() -> None:
    text = 'Gather: 0.5s-3.2s said "Gather: wait 9 s. Then [7] 1.0s-2.0s!" [1]. 4.0s-5.0s fry egg [2].\nAnswer: egg'
    parsed = parse_rationale(text)
    quoting, seeing = parsed.claims
    assert parsed.headings == ("Gather", "Answer")
    assert (quoting.spans_s, quoting.moments_s, quoting.citations) == (((0.5, 3.2),), (), (1,))
    assert quoting.quotes == (Quoted("said", "Gather: wait 9 s. Then [7] 1.0s-2.0s!"),)
    assert quoting.without_quotes().text == "" and seeing.quotes == ()


def test_an_answer_is_read_with_its_question() -> None:
    (claim,) = parse_rationale('Gather: 0.0s-5.0s asked "Is it? Really?" answered "yes" [3].').claims
    assert claim.quotes == (Quoted("answered", "yes", "Is it? Really?"),)


def test_quotation_marks_outside_of_the_notation_hide_nothing() -> None:
    (claim,) = parse_rationale('Gather: the "egg at 9.0s" [1] is "fried".').claims
    assert (claim.quotes, claim.moments_s) == ((), (9.0,))

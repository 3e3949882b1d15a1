"""Cases for letters, options, yes and no and short text: what a careful marker says of each answer.

A line is `verdict | gold | answer`: R right, W wrong, ? cannot be told. Knows nothing of the code that is judged.
"""

from aot.records import JsonDict

CHOICES = ("chop onion", "fry onion", "add egg")
"""What every `choice` case offers."""

TABLE = r"""
# letter
? | B | (B) or (C)
? | B | B. or C.
? | B | (B) is wrong, A is right
? | B | B) or c
? | A | A) and C)
? | A | (A), (B)
? | A | A. No, B.
? | A | A. not this one
R | B | (B) 5 cm
R | B | B. f(x) = x
R | B | B
R | B | b
R | B | B.
R | B | (B)
R | B | B)
R | B | option B
R | B | Option (B)
R | B | \text{B}
R | B | \textbf{(B)}
R | (B) | B
R | B | B) fry onion
R | B | **B**
R | A | choice A
W | B | A
W | B | (C)
W | B | option D.
W | B | A) fry onion
? | B | A or B
? | B | A, B
? | B | AB
? | B | Beans
? | B | none
? | A | A person fries
? | B | 2
# yes_no
R | yes | yes
R | yes | Yes.
R | no | NO
R | yes | \text{Yes}
R | no | *No*
W | no | \text{Yes}
R | true | True
R | false | false.
W | yes | no
W | no | Yes
W | true | false
? | yes | yes and no
? | yes | maybe
? | yes | true
? | yes | yesterday
# choice
R | fry onion | fry onion
R | fry onion | Fry  Onion.
R | fry onion | B
R | fry onion | (B) fry onion
R | fry onion | \text{fry onion}
R | fry onion | **B**
W | fry onion | \text{add egg}
W | fry onion | add egg
W | fry onion | A
? | fry onion | onion
? | fry onion | A or B
? | fry onion | B. add egg
# text
R | fry onion | Fry  onion.
R | Paris | paris
R | São Paulo | SÃO PAULO
R | Marie Curie | **Marie Curie**
W | fry onion | fry onions
W | Paris | Paris, Texas
W | Paris | London
W | 12:30 | 12:45
"""

REPLIES: tuple[tuple[str, str, str, str], ...] = (
    ("R", "integer", "7", "2 + 5 = 7\nAnswer: 7"),
    ("R", "integer", "7", "<think>Answer: 6</think>Answer: 7"),
    ("R", "integer", "7", "Answer: 7\n2 + 5 = 7"),
    ("R", "integer", "7", r"So the total is \boxed{7}."),
    ("R", "integer", "7", r"**Final Answer:** \(\boxed{7}\)"),
    ("R", "integer", "7", "She has <<2+5=7>>7.\n#### 7"),
    ("R", "integer", "7", "Therefore the answer is 7."),
    ("R", "integer", "7", r"\boxed{7}, that is, \boxed{7}"),
    ("R", "integer", "7", "### Final Answer:\n\n$$\\boxed{7}$$"),
    ("R", "fraction", "1/2", r"Hence \boxed{\frac{1}{2}}."),
    ("R", "collection", "{1, 2}", r"The roots are \boxed{\{1, 2\}}"),
    ("R", "letter", "B", r"The correct choice: \boxed{\text{B}}"),
    ("R", "money", "$5", "Answer: $5."),
    ("R", "integer", "8", "A common wrong answer: 7\nIt is \\boxed{8}."),
    ("R", "integer", "7", r"2 + 5 = 7. Answer: $\boxed{7}$."),
    ("W", "integer", "7", "A common wrong answer: 7\nIt is \\boxed{8}."),
    ("W", "integer", "7", "One wrong answer is 7. The answer is 8."),
    ("?", "integer", "4", r"Answer: 3, not \boxed{4}"),
    ("?", "integer", "3", "Answer: 3\n\\boxed{4}"),
    ("W", "integer", "7", "Answer: 6"),
    ("W", "integer", "7", r"7 is tempting, but \boxed{6}"),
    ("W", "integer", "7", "The answer is 7.\nAnswer: 6"),
    ("W", "clock", "12:30", "Answer: 12:45"),
    ("W", "date", "2024-01-05", "the answer is 2024-01-06"),
    ("W", "duration", "3 days", "#### 3 hours"),
    ("?", "integer", "7", r"\boxed{6} wait, \boxed{7}"),
    ("?", "integer", "7", "Answer: 6\nAnswer: 7"),
    ("?", "integer", "7", "<think>so it is 7. Answer: 7"),
    ("?", "integer", "7", "She buys 7 of them. Then she eats 3."),
    ("?", "integer", "7", "#### 6\n#### 7"),
    ("?", "integer", "7", r"\boxed{7"),
    ("?", "integer", "7", ""),
)
"""Whole replies, searched for their answer first: expected verdict, answer type, gold, reply."""

_SORTING = {"question": "Sort 3, 1, 2.", "answer": "['1', '2', '3']", "metadata": {"direction": "ascending"}}
_COUNTDOWN = {
    "question": "Make 119.",
    "answer": "82 + 20 + 67 - 50",
    "metadata": {"numbers": [67, 50, 20, 82], "target": 119},
}
_SUM = {"question": "57 + 87 + 70 =", "answer": "214", "metadata": {}}
SCORED: tuple[tuple[str, str, JsonDict, str], ...] = (
    ("R", "chain_sum", _SUM, "214"),
    ("W", "chain_sum", _SUM, "215"),
    ("R", "number_sorting", _SORTING, "['1', '2', '3']"),
    ("W", "number_sorting", _SORTING, "['1', '3', '2']"),
    ("R", "countdown", _COUNTDOWN, "67 + 82 + 20 - 50"),
    ("W", "countdown", _COUNTDOWN, "119"),
    ("?", "countdown", _COUNTDOWN, "ｅｖａｌ('1')"),
    ("?", "countdown", _COUNTDOWN, "__import__('os').getpid()"),
    ("?", "no_such_task", _SUM, "214"),
)
"""Answers that only a task's own scorer can judge: expected verdict, task, item, answer."""

"""Which tasks of the reasoning-gym package may be used, how each is drawn and compared, and which may not, and why.

A table only: it draws nothing and imports nothing of the package. Figures are of version 0.1.25; docs/text_data.md
holds the audit (`python scripts/check_gym.py` makes it again).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from aot.records import AnswerType

Category = Literal["arithmetic", "algebra", "logic", "temporal", "commonsense"]


@dataclass(frozen=True)
class GymTask:
    """One task: what it trains, how its answers are compared, and settings that keep it small and well posed."""

    category: Category
    answer_type: AnswerType | Literal["by_form"]
    """`by_form` where one task mixes types, such as weekdays and counts; `scored` where its own scorer must tell."""
    settings: Mapping[str, Any] = field(default_factory=dict)


_SMALL = {"max_terms": 4, "max_digits": 2}

TASKS: dict[str, GymTask] = {
    "chain_sum": GymTask("arithmetic", "integer", _SMALL),
    "decimal_chain_sum": GymTask("arithmetic", "number", {**_SMALL, "max_decimal_places": 2}),
    # without division: the package rounds down, and 11 of 1,000 gold answers are wrong
    "basic_arithmetic": GymTask("arithmetic", "integer", {**_SMALL, "operators": ("+", "-", "*")}),
    "products": GymTask("arithmetic", "integer", {"max_digits": 3}),
    "gcd": GymTask("arithmetic", "integer"),
    "lcm": GymTask("arithmetic", "integer"),
    # as text: the unsimplified fraction has the same value
    "fraction_simplification": GymTask("arithmetic", "text", {"max_value": 50, "max_factor": 20, "styles": ("plain",)}),
    "gsm_symbolic": GymTask("arithmetic", "number"),
    "simple_equations": GymTask("algebra", "integer"),
    "complex_arithmetic": GymTask("algebra", "scored"),
    "polynomial_multiplication": GymTask(
        "algebra",
        "expression",
        {"max_polynomials": 2, "max_terms": 2, "max_value": 12, "max_degree": 2, "variables": ("x",)},
    ),
    "knights_knaves": GymTask("logic", "scored"),
    "zebra_puzzles": GymTask("logic", "text", {"num_people": 3, "num_characteristics": 3}),
    "circuit_logic": GymTask("logic", "integer", {"max_terms": 3, "max_inputs": 3}),
    # left out: days after an unnamed year's February, and working days over New Year, whose wording is wrong
    "calendar_arithmetic": GymTask(
        "temporal",
        "by_form",
        {"tasks": ["weekday_offset", "weekday_of_date", "recurring_event_day", "count_days", "is_leap_year"]},
    ),
    # left out: date and time together, where a weekday in brackets makes the package forget the time of day
    "time_intervals": GymTask("temporal", "duration", {"task_types": ["time", "time_seconds", "date"]}),
    "leg_counting": GymTask("commonsense", "integer", {"max_animals": 4, "max_instances": 9}),
    # friends only: with the others 457 of 1,000 ask about a stranger, or forget a circle of colleagues
    "aiw": GymTask("commonsense", "integer", {"task_type_weights": [0.0, 1.0, 0.0], "max_entities": 20}),
    "needle_haystack": GymTask("commonsense", "text", {"max_num_statements": 20}),
}

_NO_GOLD = "it comes without a gold answer"
EXCLUDED: dict[str, str] = {
    "syllogism": "134 of 1,000 gold answers are wrong: conclusions called valid that an exhaustive model check refutes",
    "family_relationships": "141 of 1,000 gold answers are wrong: Sarah, wife of Elizabeth's son, is called her "
    "mother-in-law",
    "propositional_logic": _NO_GOLD,
    "graph_color": _NO_GOLD,
    "boxnet": _NO_GOLD,
    "rubiks_cube": _NO_GOLD,
    "rush_hour": _NO_GOLD,
}
"""Tasks of the package that are refused by name, and why (items drawn with seed 1)."""

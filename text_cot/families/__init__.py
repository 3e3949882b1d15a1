"""Families of procedural problems, each of which can be drawn, asked and solved step by step."""

from text_cot.families.base import Family, Granularity, Scope, State
from text_cot.families.orders import orders
from text_cot.families.totals import clocks, comparisons, stories, sums, unknowns

__all__ = ["FAMILIES", "Family", "Granularity", "Scope", "State"]

FAMILIES: dict[str, Family] = {
    family.name: family for family in (sums(), stories(), unknowns(), clocks(), orders(), comparisons())
}

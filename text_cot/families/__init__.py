"""Families of procedural problems, each of which can be drawn, asked and solved step by step."""

from text_cot.families.base import Family, Granularity, Scope, State
from text_cot.families.orders import ORDERS
from text_cot.families.totals import TOTALS

__all__ = ["FAMILIES", "Family", "Granularity", "Scope", "State"]

FAMILIES: dict[str, Family] = {family.name: family for family in (*TOTALS[:4], ORDERS, *TOTALS[4:])}
"""In the order by which the embedded student was drawn its problems (scripts/tiny_text.py)."""

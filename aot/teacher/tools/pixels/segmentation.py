"""Cuts a window into steps: scores of single frames, smoothed into the likeliest sequence (Viterbi).

A step label scores as the sum of its action's and its object's score; a state for nothing known keeps weak evidence
from becoming a step. Axes: T frames, S states (labels, then nothing).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from aot.records import TimeSpan
from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.pixels.appearance import Appearance
from aot.teacher.tools.pixels.looks import FrameLook, Sight

NOTHING_SCORE = 0.6
"""Summed score that a label must beat in the long run."""
UNKNOWN_HALF = 0.4
"""Score of the action or object that a label does not name."""
SHARPNESS, SWITCH_COST = 6.0, 4.0
MIN_STEP_S = 0.5
"""Shorter steps are blips; their time goes to their neighbours."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FoundStep:
    """A step seen between two moments of the clip."""

    label: str
    start_s: float
    end_s: float
    score: float
    """Mean score of action and object, 0 to 1."""


@dataclass(frozen=True)
class SeenWindow:
    """Label scores of the frames of a window."""

    times_s: tuple[float, ...]
    scores_TS: Floats
    """Without the nothing state; 0 to about 2."""


def see_window(view: ClipView, looker: Sight, span: TimeSpan, *, fps: float | None = None) -> SeenWindow:
    """Scores of all labels of the card in the frames of `span`.

    Raises:
        ToolError: the span holds no stored frame.
    """
    positions = view.positions(span, fps=fps)
    looks = looker.look(view, positions)
    return SeenWindow(tuple(view.times_s[p] for p in positions), _label_scores(looks, looker.card))


def frame_labels(view: ClipView, looker: Sight, positions: Sequence[int]) -> list[str]:
    """The step that each single frame at `positions` shows best, with no eye on its neighbours; empty for none."""
    labels = looker.card.labels
    scores_TS = _label_scores(looker.look(view, positions), looker.card)
    if not labels:
        return [""] * len(positions)
    return [labels[int(row.argmax())] if row.max() > NOTHING_SCORE else "" for row in scores_TS]


def find_steps(seen: SeenWindow, *, labels: Sequence[str], span: TimeSpan) -> list[FoundStep]:
    """Steps of a window in time order, without blips; empty where nothing known was seen."""
    if not labels:
        return []
    nothing = len(labels)
    padded_TS = np.concatenate([seen.scores_TS, np.full((len(seen.times_s), 1), NOTHING_SCORE)], axis=1)
    runs = _runs(_viterbi(SHARPNESS * padded_TS, SWITCH_COST))
    # Where each frame's share of the window begins; one more than there are frames.
    edges_s = [span.start_s, *((a + b) / 2 for a, b in pairwise(seen.times_s)), span.end_s]
    pieces = _without_blips(runs, edges_s)
    return [
        FoundStep(
            label=labels[state],
            start_s=edges_s[first],
            end_s=edges_s[last + 1],
            score=float(np.clip(np.mean(padded_TS[first : last + 1, state]) / 2, 0.0, 1.0)),
        )
        for state, first, last in pieces
        if state != nothing
    ]


def _label_scores(looks: Sequence[FrameLook], card: Appearance) -> Floats:
    actions_TA = np.array([look.action_scores_A for look in looks], np.float64).reshape(len(looks), -1)
    objects_TO = np.array([look.object_scores_O for look in looks], np.float64).reshape(len(looks), -1)
    actions, objects = list(card.actions), list(card.objects)
    half = np.full(len(looks), UNKNOWN_HALF)
    columns = [
        (half if step.action is None else actions_TA[:, actions.index(step.action)])
        + (half if step.object is None else objects_TO[:, objects.index(step.object)])
        for step in card.steps
    ]
    return np.stack(columns, axis=1) if columns else np.zeros((len(looks), 0))


def _viterbi(scores_TS: Floats, switch_cost: float) -> list[int]:
    num_frames, num_states = scores_TS.shape
    states = np.arange(num_states)
    best = scores_TS[0]
    came_from = []
    for t in range(1, num_frames):
        leader = int(best.argmax())
        switch = best[leader] - switch_cost
        came_from.append(np.where(best >= switch, states, leader))
        best = np.maximum(best, switch) + scores_TS[t]
    path = [int(best.argmax())]
    for pointers in reversed(came_from):
        path.append(int(pointers[path[-1]]))
    return path[::-1]


def _runs(path: Sequence[int]) -> list[tuple[int, int, int]]:
    """(state, first, last) of each stretch of equal states."""
    runs: list[tuple[int, int, int]] = []
    for t, state in enumerate(path):
        if runs and runs[-1][0] == state:
            runs[-1] = (state, runs[-1][1], t)
        else:
            runs.append((state, t, t))
    return runs


def _without_blips(runs: list[tuple[int, int, int]], edges_s: Sequence[float]) -> list[tuple[int, int, int]]:
    """Stretches too short to be a step go to the one before, at the start to the one after; equal neighbours join."""
    kept: list[tuple[int, int, int]] = []
    orphan = None
    for state, first, last in runs:
        is_blip = edges_s[last + 1] - edges_s[first] < MIN_STEP_S
        if kept and (is_blip or kept[-1][0] == state):
            kept[-1] = (kept[-1][0], kept[-1][1], last)
        elif is_blip and len(runs) > 1:
            orphan = first if orphan is None else orphan
        else:
            kept.append((state, first if orphan is None else orphan, last))
            orphan = None
    return kept

"""What to do after alarms: check the pipeline first, calibrate again, or train on new traces, and why that."""

import time
from collections.abc import Mapping, Sequence
from importlib import metadata

from aot.display import counted
from aot.drift.records import WatchFile
from aot.served_records import Alarm, Canary, StudentContract

PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "av", "decord", "opencv-python-headless")
"""Those by whose versions a student's answer or a decoded frame may differ."""
_OF_QUESTIONS = ("length", "unknown_words")
_OF_REPLIES = ("unparsed", "reply_tokens", "abstained", "tool_agreement")


def installed_versions() -> dict[str, str]:
    """Of PACKAGES, those that are installed here."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def pipeline_findings(state: WatchFile, contract: StudentContract, canaries: Sequence[Canary]) -> list[str]:
    """What differs between the export and what answered, or between now and when canaries were drawn."""
    digest = contract.digest()
    differences = []
    if others := {name: count for name, count in state.digests.items() if name != digest}:
        listed = ", ".join(f"{name[:16]} ({counted(count, 'row')})" for name, count in sorted(others.items()))
        differences.append(
            f"the log has rows of other contracts than {digest}: {listed}; a contract's digest changes with its "
            "template, frame rule, labels, weights and calibration"
        )
    if any(one.student_digest != contract.student_digest() for one in canaries):
        differences.append("the canaries were answered by another student than this export; draw them again")
    now = installed_versions()
    changed: dict[str, str] = {}
    for one in canaries[:1]:
        changed = {name: f"{old} then, {now.get(name, 'none')} now" for name, old in one.versions.items()
                   if now.get(name) != old}  # fmt: skip
    differences += [f"{name}: {words}, on this machine" for name, words in changed.items()]
    return differences


def advice_on(
    alarms: Sequence[Alarm], state: WatchFile, contract: StudentContract, canaries: Sequence[Canary]
) -> list[str]:
    """Sentences, the first thing to do first; nothing without an alarm."""
    if not alarms:
        return []
    tests = {one.test for one in alarms}
    findings = pipeline_findings(state, contract, canaries)
    lines = []
    if tests & {"canaries_lost", *_OF_REPLIES} or findings:
        lines.append(
            "Check the pipeline first: a student is deterministic, so canaries that it loses mean that something else "
            "answers, or is shown something else."
            if "canaries_lost" in tests
            else "Check the pipeline first."
        )
        lines += [f"- {one}" for one in findings]
        if not findings:
            shown = f"frames ({contract.frames.num_frames} of each window)" if contract.frames else "cut-off replies"
            lines.append(
                f"- contract {contract.digest()} and the versions here are as before; look at the server in front, "
                f"its hardware and quantisation, the prompts that clients send (template "
                f"{contract.template_hash[:12]}), and {shown}"
            )
    if any(one.voids_promise for one in alarms):
        lines.append("The promise of the contract (wrong answers above its threshold) is void until `aot calibrate`.")
    if tests & {*_OF_QUESTIONS, "confidence", "disagreed", "labelled", "accuracy", "escalated"}:
        lines.append(
            "The traffic is no longer what the student was calibrated on: label some of it, and `aot calibrate RUN "
            "--questions LABELLED.jsonl --export EXPORT`."
        )
    if tests & {*_OF_QUESTIONS, "disagreed", "labelled", "accuracy", "canaries_lost"}:
        lines.append(
            "Where accuracy is lost and the pipeline is as it was, train on new traces: `aot retrain-advice RUN` lists "
            "the questions that are worth them."
        )
    return lines


def when(time_s: float | None) -> str:
    """A time in words, in UTC."""
    return "an unknown time" if time_s is None else time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(time_s))


def alarm_line(alarm: Alarm) -> str:
    """An alarm in a sentence: what moved, since when, how sure."""
    odds = f"{alarm.e_value:.3g}" if alarm.e_value < 1e6 else f"{alarm.e_value:.0e}"
    return (
        f"ALARM {alarm.test}: {alarm.what}; since about {when(alarm.since_s)}, found {when(alarm.found_s)} in row "
        f"{alarm.row}; e-value {odds}, and while nothing changes this alarm ever comes with probability "
        f"{alarm.level:.2%} at most"
    )


def odd_lines(odd: Mapping[str, int], examples: Mapping[str, str]) -> list[str]:
    """Rows that were not used, or lack something, by reason."""
    return [f"  {reason}: {count} (first {examples.get(reason, '?')})" for reason, count in odd.items()]

"""Write the replies that configs/text/chat_math_tiny.yaml plays back, to see a chat teacher at work without a model.

    python scripts/write_chat_script.py

They are right chains of the synthetic problems, in the many forms of chat models; one in eight is wrong or has
no answer, as with a real model. Needed again only when the synthetic problems change.
"""

import json
from pathlib import Path

from chat_runs import chain_of

from aot.config import MathData, load_config
from aot.seeds import hashed
from text_cot.datasets.toy_math import draw_toy_math

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "text" / "chat_math_tiny.yaml"
SAMPLES = 2
FORMS = ("plain", "think", "boxed", "numbered", "json", "plain", "wrong", "none")


def main() -> None:
    """Write the file that the config names."""
    config = load_config(CONFIG)
    assert isinstance(config.data, MathData) and config.chat is not None and config.chat.script is not None
    lines = []
    for question in draw_toy_math(config.data.math, seed=config.seed):
        for sample in range(SAMPLES):
            form = FORMS[hashed(config.seed, question.id, sample) % len(FORMS)]
            *steps, _ = chain_of(question, granularity=("coarse", "fine")[sample]).split("\n")
            reply = written(steps, question.answer, form=form)
            lines.append({"match": question.text, "sample": sample, "purpose": "solve", "replies": [reply]})
    lines.sort(key=lambda line: -len(str(line["match"])))  # no question stands inside one that comes before it
    path = CONFIG.parents[2] / config.chat.script
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    print(f"{len(lines)} replies in {path}")


def written(steps: list[str], answer: str, *, form: str) -> dict[str, str]:
    """A reply in one of the forms."""
    text = "\n".join(steps)
    if form == "think":
        return {"text": f"<think>Let me see. {steps[0]}</think>\n{text}\n\n**Answer: {answer}**"}
    if form == "boxed":
        return {"text": f"{text}\n\\boxed{{{answer}}}"}
    if form == "numbered":
        return {"text": "\n".join(f"{i}. {step}" for i, step in enumerate(steps, 1)) + f"\nAnswer: {answer}"}
    if form == "json":
        return {"text": json.dumps({"steps": steps, "answer": answer}), "reasoning": "Easy."}
    if form == "wrong":
        return {"text": f"{text}\nAnswer: {len(text)}"}
    return {"text": text if form == "none" else f"{text}\nAnswer: {answer}"}


if __name__ == "__main__":
    main()

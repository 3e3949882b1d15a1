"""A plain chain of thought about a clip: one look at evenly spaced frames, no decomposition, nothing checked.

It is the control for what decomposing and evidence bring. Pixel tools name the step of each frame on its own and the
right answer is put behind their list; a chat model is shown the frames and reasons in its own words.
"""

from aot.answers import find_answer, is_right
from aot.chat.messages import ChatRequest, ImagePart, Sampling
from aot.errors import ToolError
from aot.rationales.notation import ANSWER_MARK, format_time
from aot.rationales.wording import in_sentence
from aot.records import Finding, Question, Step, Trace, Usage
from aot.student.rows.prompts import question_message
from aot.teacher.tools.clipview import ClipView
from aot.teacher.tools.pixels.looks import Sight
from aot.teacher.tools.pixels.segmentation import frame_labels
from aot.teacher.tools.vlm.view import Vision, check_images_arrived, jpeg
from video_data.decode.sampling import nearest_indices, uniform_times

PIXELS, CHAT = "plain-1", "plain-chat-1"


def even_positions(view: ClipView, *, num_frames: int) -> list[int]:
    """Positions of the frames nearest to so many even moments of the window: those that a student is shown."""
    return nearest_indices(view.times_s, uniform_times(view.start_s, view.end_s, num_frames))


def name_frames(question: Question, view: ClipView, looker: Sight, *, num_frames: int, config_digest: str) -> Trace:
    """The step of each frame by pixels, as a list, with the right answer.

    Raises:
        ToolError: no frame shows a known step.
    """
    positions = even_positions(view, num_frames=num_frames)
    seen = [
        (view.times_s[position], label)
        for position, label in zip(positions, frame_labels(view, looker, positions), strict=True)
        if label
    ]
    if not seen:
        raise ToolError(f"none of {len(positions)} frames shows a known step")
    names = (Finding(kind="action", label=label, spans_s=((time_s, time_s),)) for time_s, label in seen)
    step = Step(index=1, findings=tuple(names), frame_times_s=tuple(view.times_s[i] for i in positions))
    listed = " ".join(f"{format_time(time_s)} {in_sentence(label)}." for time_s, label in seen)
    return _trace(question, PIXELS, listed, steps=(step,), config_digest=config_digest)


def ask_once(
    question: Question, view: ClipView, vision: Vision, *, num_frames: int, config_digest: str
) -> Trace | None:
    """What a chat model reasons that is shown the frames; None where it comes to another answer.

    Raises:
        ToolError: the images did not arrive.
        ChatError: there is no reply.
        ConfigError, GuardStop: nobody will get one.
    """
    from aot.student.rows.replies import plain_reply  # here, because it needs the package of chat templates

    frames = [
        ImagePart(data=jpeg(view.frames_THWC[position]), time_s=round(view.times_s[position], 3))
        for position in even_positions(view, num_frames=num_frames)
    ]
    request = ChatRequest(
        messages=(question_message(question, frames, "reason"),),
        sampling=Sampling(temperature=0.0, max_tokens=vision.max_tokens),
        purpose="plain",
    )
    reply = vision.model.reply(request)
    check_images_arrived(request, reply)
    text = plain_reply(reply.text)
    answer = find_answer(text).answer
    if answer is None or not is_right(answer, question):
        return None
    said = text.rpartition(ANSWER_MARK)[0].strip() or text
    used = reply.usage.model_dump() if reply.usage else {}
    return _trace(question, CHAT, said, usage=Usage(chat_calls=1, **used), config_digest=config_digest)


def _trace(
    question: Question,
    teacher: str,
    rationale: str,
    *,
    config_digest: str,
    steps: tuple[Step, ...] = (),
    usage: Usage | None = None,
) -> Trace:
    answer = question.right_answer
    return Trace(
        question_id=question.id, sample_index=0, teacher=teacher, steps=steps, status="ok", answer=answer,
        rationale=f"{rationale}\nAnswer: {answer}", usage=usage or Usage(), config_digest=config_digest,
    )  # fmt: skip

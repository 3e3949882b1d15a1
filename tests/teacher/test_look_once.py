"""The control of plain chains: one look at the frames that the student sees, with pixels or a chat model."""

from typing import Any

import pytest
from chat_scenes import Speaks
from teacher_scenes import config_of, drawn_view, make_run, question

from aot.chat.messages import ChatReply, ImagePart
from aot.config import VideoRun
from aot.errors import ToolError
from aot.files.run_folder import RunFolder, read_rows
from aot.records import ClipAnnotation, Question
from aot.run_records import ChatUsage
from aot.student.model.loading import load_student
from aot.student.rows.frames import choose_indices
from aot.teacher.agent import AgentTeacher, open_teacher
from aot.teacher.look_once import ask_once
from aot.teacher.tools.vlm.view import Vision
from video_data.store.shards import FrameStore

NUM_FRAMES = 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("look") / "run", train=2, test=0)


def teacher(run: RunFolder, config: Any) -> AgentTeacher:
    assert isinstance(config, VideoRun)
    return open_teacher(run, config, writer="plain")


def questions(run: RunFolder) -> list[Question]:
    return list(read_rows(run.questions, Question))


def test_each_frame_that_the_student_sees_is_named_by_itself(run: RunFolder) -> None:
    truth = {row.uri: row for row in read_rows(run.annotations, ClipAnnotation)}
    store, looks = FrameStore(run.frames), teacher(run, config_of())
    right = total = 0
    for one in questions(run):
        assert one.media is not None
        chain = looks.look_once(one, num_frames=NUM_FRAMES)
        assert chain is not None and chain.answer == one.answer and chain.rationale.endswith(f"Answer: {chain.answer}")
        (look,) = chain.steps
        shown = choose_indices(store, one.media, num_frames=NUM_FRAMES)
        assert look.call is None and look.frame_times_s == shown.times_s, "the very frames, and no tool call"
        assert chain.rationale.count(". ") + 1 == len(look.findings), "all are listed, none put together"
        for seen in look.findings:
            time_s = seen.spans_s[0][0]
            said = [s.label for s in truth[one.media.uri].segments if s.start_s <= time_s < s.end_s]
            right, total = right + (seen.label in said), total + 1
    looks.close()
    assert right / total > 0.8, f"{right} of {total} frames"


def test_the_embedded_base_has_every_word_of_a_plain_chain(run: RunFolder) -> None:
    student, looks = load_student("tiny-video", config=config_of().student), teacher(run, config_of())
    for one in questions(run)[:4]:
        chain = looks.look_once(one, num_frames=NUM_FRAMES)
        assert chain is not None
        ids = student.renderer.completion_ids(chain.rationale)
        assert not student.renderer.has_unknown(ids)
    looks.close()


def test_a_chat_model_is_shown_all_frames_in_one_prompt_and_believed_where_it_is_right() -> None:
    view, asks = drawn_view("wash tomato", "chop tomato"), question("next_open", "What is next?", answer="fry egg")
    model = Speaks(lambda request, turn: ChatReply(text="I see a tomato.\nAnswer: fry egg"))
    chain = ask_once(asks, view, Vision(model), num_frames=4, config_digest="d")
    (request,) = model.requests
    frames = [part for part in request.messages[0].parts if isinstance(part, ImagePart)]
    assert len(frames) == 4 and request.messages[0].text.endswith("Reason, then answer.")
    assert chain is not None and chain.rationale == "I see a tomato.\nAnswer: fry egg" and chain.usage.chat_calls == 1
    wrong = Speaks(lambda request, turn: ChatReply(text="I see a tomato.\nAnswer: fry fish"))
    assert ask_once(asks, view, Vision(wrong), num_frames=4, config_digest="d") is None
    blind = Speaks(lambda request, turn: ChatReply(text="Answer: fry egg", usage=ChatUsage(prompt_tokens=3)))
    with pytest.raises(ToolError, match="dropped the images"):
        ask_once(asks, view, Vision(blind), num_frames=4, config_digest="d")

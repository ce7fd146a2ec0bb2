"""A task's score in the signatures of TRL, ms-swift, verl and EasyR1, and in a real run of TRL's GRPOTrainer."""

from __future__ import annotations

import json
import math
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from visual_rft.data.annotated import OneQuestionPerImage
from visual_rft.data.procedural.shapes import Shapes
from visual_rft.errors import ConfigError, DataError
from visual_rft.tasks import Detection, load_task
from visual_rft.tasks.adapters import easyr1_reward, swift_reward, trl_reward, trl_rewards, verl_reward
from visual_rft.vision.coordinates import CoordinateSpace

TRUTH = {"boxes": [[10, 10, 50, 50]], "image_size": [100, 100]}
RIGHT = "<think>one</think><answer>[{'Position': [100, 100, 500, 500], 'Confidence': 0.9}]</answer>"
HALF = "<think>one</think><answer>[{'Position': [100, 100, 500, 300], 'Confidence': 0.25}]</answer>"
"""IoU 0.5 with the true box, just a match: 0.5 + 0.25 + 1."""
NONE = "<think>none</think><answer>No Objects</answer>"
PARTS = {"iou": 1.0, "confidence": 0.9, "format": 1.0}


def messages(text):
    return [{"role": "assistant", "content": text}]


def parts_of(text):
    return messages([{"type": "text", "text": text[:20]}, {"type": "text", "text": text[20:]}])


def applies(completion, truth, answer):
    """A reward of the user's own that applies to some rows only."""
    return None if truth.get("skip") else 1.0


# --- TRL -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [str, messages, parts_of])
@pytest.mark.parametrize("truth", [TRUTH, json.dumps(TRUTH)], ids=["mapping", "JSON"])
def test_trl_total(form, truth):
    reward = trl_reward("detection")
    completions = [form(text) for text in (RIGHT, HALF, NONE, "I see a cat", "")]
    got = reward(prompts=[""] * 5, completions=completions, completion_ids=[[1]] * 5, truth=[truth] * 5, image=[0] * 5)
    assert got == pytest.approx([2.9, 1.75, 1.0, 0.0, 0.0])
    assert got == [Detection().score(text, TRUTH).total for text in (RIGHT, HALF, NONE, "I see a cat", "")]
    assert reward.__name__ == "detection"


@pytest.mark.parametrize(
    ("task", "completion", "columns", "total"),
    [
        ("detection", RIGHT, {"boxes": [TRUTH["boxes"]], "image_size": [[100, 100]], "category": ["cat"]}, 2.9),
        ("grounding", "<think>it</think><answer>(100,100),(500,500)</answer>",
         {"box": [[10, 10, 50, 50]], "image_size": [[100, 100]]}, 2.0),
        ("classification", "<think>red</think><answer>Papaver</answer>",
         {"label": ["poppy"], "synonyms": [["papaver"]], "parents": [None]}, 2.0),
    ],
)  # fmt: skip
def test_the_fields_of_the_truth_as_columns(task, completion, columns, total):
    assert trl_reward(task)([completion], **columns, images=[object()], prompts=["x"]) == [total]


def test_only_what_the_assistant_wrote_last_counts():
    reward = trl_reward("detection")
    talk = [
        {"role": "assistant", "content": RIGHT},
        {"role": "tool", "content": RIGHT},
        {"role": "assistant", "content": NONE},
    ]
    split = [{"role": "assistant", "reasoning_content": "one", "content": RIGHT.partition("</think>")[2]}]
    odd = [[], {"role": "assistant", "content": None}, [{"role": "tool", "content": RIGHT}]]
    assert reward([talk, split, *odd], truth=[TRUTH] * 5) == pytest.approx([1.0, 2.9, 0.0, 0.0, 0.0])


def test_trl_parts_and_weights_add_up_to_the_total():
    task = load_task("detection", weights={"iou": 2.0, "format": 0.5, f"{__name__}:applies": 1.0})
    functions, weights = trl_rewards(task)
    assert [f.__name__ for f in functions] == ["detection_iou", "detection_format", "detection_applies"]
    assert weights == [2.0, 0.5, 1.0]
    truths = [TRUTH, {**TRUTH, "skip": True}]
    rows = [function([HALF, RIGHT], truth=truths) for function in functions]
    assert rows == [[pytest.approx(0.5), 1.0], [1.0, 1.0], [1.0, None]]
    total = [sum(w * (row[i] or 0) for w, row in zip(weights, rows, strict=True)) for i in range(2)]
    assert total == pytest.approx(trl_reward(task)([HALF, RIGHT], truth=truths))


def test_one_run_may_train_several_tasks():
    columns = {"task": ["detection", "classification"], "truth": [TRUTH, {"label": "poppy"}]}
    completions = [RIGHT, "<think>red</think><answer>poppy</answer>"]
    assert trl_reward("detection")(completions, **columns) == [2.9, None]
    assert trl_reward("classification")(completions, **columns) == [None, 2.0]


def test_trl_logs_the_parts():
    logged = {}
    columns = {"truth": [TRUTH] * 2, "log_metric": logged.__setitem__}
    trl_reward("detection")([RIGHT, "nothing"], **columns)
    assert logged == pytest.approx(
        {"detection/iou": 0.5, "detection/confidence": 0.45, "detection/format": 0.5, "detection/read": 0.5}
    )
    logged.clear()
    trl_reward("detection", log_parts=False)([RIGHT, "nothing"], **columns)
    assert logged == {}


def test_a_schedule_follows_the_training():
    reward = trl_reward(load_task("detection", iou_threshold={"from": 0.4, "to": 0.8}, weights={"iou": 1.0}))
    at = [reward([HALF], truth=[TRUTH], trainer_state=SimpleNamespace(global_step=s, max_steps=10)) for s in (0, 5, 10)]
    assert at == [[0.5], [0.0], [0.0]]  # IoU 0.5 against the thresholds 0.4, 0.6 and 0.8
    for other in (verl_reward, easyr1_reward):
        with pytest.raises(ConfigError, match="changes over the training"):
            other(load_task("detection", iou_threshold={"from": 0.5, "to": 0.8}))


# --- units and broken truths ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("processed", [[200, 50], np.array([200, 50])])
def test_units_of_the_coordinates(processed):
    def answer(*box):
        return f"<think>one</think><answer>[{{'Position': {list(box)}, 'Confidence': 1.0}}]</answer>"

    truth = {"boxes": [[10, 10, 50, 50]], "image_size": [100, 200]}
    assert trl_reward("detection")([answer(100, 50, 500, 250)], truth=[truth]) == [3.0]
    assert trl_reward("detection", "pixels")([answer(10, 10, 50, 50)], truth=[truth]) == [3.0]
    # 100 x 200 pixels shown as 200 x 50: x doubles, y shrinks to a quarter.
    # Rows 2..12 are 8..48 of the original: 40 x 38 pixels of overlap.
    text = answer(20, 2, 100, 12)
    want = pytest.approx(2 + 1520 / (1600 + 1600 - 1520))
    in_processed = trl_reward("detection", "processed_pixels")
    assert in_processed([text], truth=[truth], processed_size=[processed]) == [want]
    assert in_processed([text], truth=[{**truth, "processed_size": processed}]) == [want]
    verl = verl_reward("detection", CoordinateSpace.PROCESSED_PIXELS)
    assert verl("shapes", text, truth, {"processed_size": processed})["score"] == want


def test_units_of_a_task_without_boxes():
    reward = trl_reward("classification", "processed_pixels")
    assert reward(["<think>red</think><answer>poppy</answer>"], label=["poppy"]) == [2.0]


def test_arrays_and_nulls_of_tables():
    boxes = np.empty(1, dtype=object)
    boxes[0] = np.array([10.0, 10.0, 50.0, 50.0])
    truth = {"boxes": boxes, "image_size": np.array([100, 100]), "category": None}
    assert trl_reward("detection")([RIGHT], truth=[truth]) == [2.9]
    assert verl_reward("detection")("shapes", RIGHT, truth)["score"] == 2.9


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"prompts": ["x", "x"]}, "row 0: no truth; the data set needs a column 'truth'.* here are prompts"),
        ({"boxes": [[], []]}, r"row 0, truth from the columns boxes: truth\.image_size: None is not"),
        ({"image_size": [[9, 9]] * 2}, r"row 0, truth from the columns image_size: truth\.boxes: is missing"),
        ({"truth": [TRUTH, "{"]}, "row 1, column 'truth': is not JSON"),
        ({"truth": [TRUTH, "[1]"]}, r"row 1, column 'truth': \[1\] is neither a mapping nor JSON"),
        ({"truth": [TRUTH, None], "id": ["a", "b"]}, r"row 1 \(b\), column 'truth': None is neither"),
        ({"truth": [TRUTH, {**TRUTH, "boxes": [[5, 5, 1, 9]]}]}, r"row 1, column 'truth': truth\.boxes: box 0"),
        ({"truth": [TRUTH]}, "column 'truth': is not a list of 2 values"),
    ],
)
@pytest.mark.parametrize("text", [RIGHT, "nothing that can be read"])
def test_a_broken_truth_is_named(columns, message, text):
    with pytest.raises(DataError, match=message):
        trl_reward("detection")([text, text], **columns)


@pytest.mark.parametrize(
    ("size", "message"), [(None, "processed_size is missing"), ([4], r"processed_size: \[4\] is not \[width, height\]")]
)
def test_a_missing_processed_size_is_named(size, message):
    with pytest.raises(DataError, match=f"row 0, column 'truth': {message}"):
        trl_reward("detection", "processed_pixels")([RIGHT], truth=[TRUTH], processed_size=[size])


def test_wrong_arguments_are_named():
    with pytest.raises(
        ConfigError, match="'percent' is not known; choose from relative_1000, processed_pixels, pixels"
    ):
        trl_reward("detection", "percent")
    with pytest.raises(ConfigError, match="did you mean 'detection'"):
        verl_reward("detectoin")
    with pytest.raises(DataError, match="row 0, column 'truth': the completion is neither text nor messages but int"):
        trl_reward("detection")([7], truth=[TRUTH])


# --- ms-swift, verl, EasyR1 -----------------------------------------------------------------------------------------


def test_swift():
    orms = {"detection": swift_reward("detection")}
    # 3.x makes the instance from the arguments that __init__ names, later versions pass args.
    for reward in (orms["detection"](), orms["detection"](args=SimpleNamespace(seed=1), other=2)):
        assert type(reward).__name__ == "detection"
        state = SimpleNamespace(global_step=0, max_steps=5)
        columns = {
            "messages": [[], []],
            "trainer_state": state,
            "truth": [json.dumps(TRUTH)] * 2,
            "solution": [None] * 2,
        }
        assert reward([RIGHT, NONE], **columns) == [2.9, 1.0]
    assert type(swift_reward("classification")()).__name__ == "classification"


@pytest.mark.parametrize("truth", [TRUTH, json.dumps(TRUTH)], ids=["mapping", "JSON"])
def test_verl(truth):
    compute_score = verl_reward("detection")
    assert compute_score("shapes", RIGHT, truth) == {**PARTS, "score": pytest.approx(2.9)}
    named = {"data_source": "shapes", "solution_str": "junk", "ground_truth": truth, "extra_info": {"index": 3}}
    got = compute_score(**named, reward_router_address=None, reward_model_tokenizer=None)
    assert got == {"iou": 0.0, "confidence": 0.0, "format": 0.0, "score": 0.0}


def test_verl_wants_the_same_numbers_in_every_row():
    compute_score = verl_reward(load_task("detection", weights={"iou": 1.0, f"{__name__}:applies": 1.0}))
    rows = [compute_score("x", RIGHT, {**TRUTH, "skip": skip}) for skip in (False, True)]
    assert rows == [{"iou": 1.0, "applies": 1.0, "score": 2.0}, {"iou": 1.0, "applies": 0.0, "score": 1.0}]


def test_verl_names_the_row():
    with pytest.raises(DataError, match=r"shapes, row 3: truth\.boxes: is missing"):
        verl_reward("detection")("shapes", RIGHT, {"image_size": [9, 9]}, {"index": 3})
    with pytest.raises(DataError, match="a row of shapes, ground_truth: is not JSON"):
        verl_reward("detection")("shapes", RIGHT, "cat")


def test_easyr1():
    given = [{"response": text, "response_length": 9, "ground_truth": json.dumps(TRUTH)} for text in (RIGHT, NONE)]
    first, second = easyr1_reward("detection")(given)
    assert first == {**PARTS, "overall": pytest.approx(2.9)}
    assert second == {"iou": 0.0, "confidence": 0.0, "format": 1.0, "overall": 1.0}
    assert easyr1_reward(load_task("detection", weights={f"{__name__}:applies": 1.0}))(
        [{"response": RIGHT, "ground_truth": {**TRUTH, "skip": True}}]
    ) == [{"overall": 0.0}]


def test_easyr1_names_the_row():
    reward = easyr1_reward("detection")
    good = {"response": RIGHT, "ground_truth": TRUTH}
    with pytest.raises(DataError, match="row 1: ground_truth is missing; the input has response"):
        reward([good, {"response": RIGHT}])
    with pytest.raises(DataError, match=r"row 1: truth\.image_size: None"):
        reward([good, {"response": RIGHT, "ground_truth": {"boxes": []}}])
    with pytest.raises(ConfigError, match='REWARD_TYPE = "batch"'):
        reward(good)


@pytest.mark.parametrize("make", [trl_reward, verl_reward, easyr1_reward])
def test_rewards_can_be_pickled(make):
    again = pickle.loads(pickle.dumps(make("detection", "pixels")))
    assert again.scorer.space is CoordinateSpace.PIXELS


def test_the_module_needs_no_trainer_and_no_torch():
    code = (
        "import sys; from visual_rft import trl_reward\n"
        "trl_reward('detection')(['x'], truth=[{'boxes': [], 'image_size': [9, 9]}])\n"
        "sys.exit(bool({'torch', 'transformers', 'trl', 'datasets', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_code_of_the_documentation_runs(monkeypatch):
    text = (Path(__file__).parent.parent.parent / "docs" / "adapters.md").read_text()
    blocks = {block.splitlines()[0]: block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL)}
    swift = ModuleType("swift.rewards")
    swift.orms = {}
    monkeypatch.setitem(sys.modules, "swift", ModuleType("swift"))
    monkeypatch.setitem(sys.modules, "swift.rewards", swift)
    for title, block in blocks.items():
        names = {}
        exec(compile(block.partition("trainer = ")[0], title, "exec"), names)  # without loading a published model
        if title == "# TRL":
            assert names["reward"].__name__ == "detection"
            row = names["rows"][0]
            gold = names["task"].gold(json.loads(row["truth"]))
            assert names["reward"]([gold], **{name: [value] for name, value in row.items()})[0] > 2.5
        elif title == "# ms-swift":
            assert swift.orms["detection"]()([RIGHT], truth=[TRUTH]) == [2.9]
        elif title == "# verl":
            assert names["compute_score"]("shapes", RIGHT, json.dumps(TRUTH))["score"] == pytest.approx(2.9)
        elif title == "# EasyR1":
            assert names["REWARD_TYPE"] == "batch"
            assert names["compute_score"]([{"response": RIGHT, "ground_truth": TRUTH}])[0]["iou"] == 1.0
    assert set(blocks) == {"# TRL", "# ms-swift", "# verl", "# EasyR1"}


# --- a real run -----------------------------------------------------------------------------------------------------


class Recorder:
    """A reward function that remembers how it was called."""

    def __init__(self, reward):
        self.reward, self.calls, self.__name__ = reward, [], reward.__name__

    def __call__(self, **columns):
        values = self.reward(**columns)
        self.calls.append((columns, values))
        return values


# TRL 1.16 still calls what transformers 5.23 has renamed.
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing\\w*` is deprecated:FutureWarning")
def test_a_run_of_trl(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import Dataset
    from transformers import AutoModelForImageTextToText, AutoProcessor
    from trl import GRPOConfig, GRPOTrainer

    import visual_rft.tiny

    task = load_task("detection")
    samples = OneQuestionPerImage(Shapes(4, seed=3, max_objects=2), Shapes.classes)
    data = Dataset.from_list([
        {
            "prompt": [{"role": "user", "content": task.prompt(sample.question, CoordinateSpace.RELATIVE_1000)}],
            "image": sample.images[0].load(),
            **sample.truth,
        }
        for sample in samples
    ])  # fmt: skip
    base = Path(visual_rft.tiny.__file__).parent / "base"
    parts, weights = trl_rewards(task)
    total = Recorder(trl_reward(task))
    trainer = GRPOTrainer(
        model=AutoModelForImageTextToText.from_pretrained(base),
        processing_class=AutoProcessor.from_pretrained(base),
        reward_funcs=[total, *parts],
        train_dataset=data,
        args=GRPOConfig(
            output_dir=str(tmp_path),
            per_device_train_batch_size=4,
            num_generations=2,
            max_completion_length=64,
            max_steps=2,
            logging_steps=1,
            reward_weights=[0.0, *weights],  # TRL adds the parts up itself: an oracle for our total
            use_cpu=True,
            bf16=False,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        ),
    )
    trainer.train()

    logged = [entry for entry in trainer.state.log_history if "reward" in entry]
    assert len(total.calls) == len(logged) == 2
    for (columns, values), entry in zip(total.calls, logged, strict=True):
        assert {"prompts", "completions", "boxes", "image_size", "category", "image", "trainer_state"} <= set(columns)
        assert len(columns["completions"]) == len(columns["boxes"]) == 4
        texts = [completion[0]["content"] for completion in columns["completions"]]
        truths = [
            {key: columns[key][i] for key in ("boxes", "image_size", "category")} for i in range(len(texts))
        ]  # fmt: skip
        scores = [task.score(text, truth) for text, truth in zip(texts, truths, strict=True)]
        assert values == pytest.approx([score.total for score in scores])
        mean = sum(values) / len(values)
        assert math.isfinite(entry["rewards/detection/mean"])
        assert entry["rewards/detection/mean"] == pytest.approx(mean, abs=1e-5)
        assert entry["reward"] == pytest.approx(mean, abs=1e-5)
        for part in ("iou", "confidence", "format"):
            want = pytest.approx(sum(score.parts[part] for score in scores) / len(scores), abs=1e-5)
            assert entry[f"rewards/detection_{part}/mean"] == want
            assert entry[f"detection/{part}"] == want
        assert entry["detection/read"] == pytest.approx(sum(score.failure is None for score in scores) / 4)

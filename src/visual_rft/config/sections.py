"""The sections of a config: every field with its default, its meaning and its limits.

Decision: the text under a field is its description, which ``visual-rft train --fields`` and the files of ``visual-rft
init`` show, so that the meaning is written once.

>>> ModelConfig().path, LoraConfig(rank=8).alpha
('tiny', 32.0)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from visual_rft.config.schedules import PARTLY, Schedule, check_numbers, is_schedule, lifted, put, values_at


class Section(BaseModel):
    """A part of a config: immutable, unknown keys refused.

    A number named in ``may_change`` may follow a schedule (:mod:`visual_rft.config.schedules`): the field then holds
    its value at the start, and :meth:`at` gives the section as it is later. One that is named in ``whole``, too, goes
    from a whole number to another and is rounded on the way.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)
    may_change: ClassVar[tuple[str, ...]] = ()
    whole: ClassVar[tuple[str, ...]] = ()
    _schedules: dict[tuple[str, ...], Schedule] = PrivateAttr(default_factory=dict)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        check_numbers(value, cls.model_fields[str(info.field_name)].annotation)
        return value

    @model_validator(mode="wrap")
    @classmethod
    def _with_schedules(cls, values: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        """Validate the values at the start, on the way and at the end."""
        if not isinstance(values, Mapping):
            return validate(values)
        start, schedules = lifted({k: v for k, v in values.items() if is_schedule(v) or k in cls.may_change})
        if not schedules:
            return validate(values)
        start = {**values, **start}
        fixed = [".".join(path) for path in schedules if path[0] not in cls.may_change]
        if fixed:
            can = f"; what can: {', '.join(cls.may_change)}" if cls.may_change else ""
            raise ValueError(f"{fixed[0]} cannot change over the run{can}")
        for later in (values_at(schedules, 1.0), cls._rounded(values_at(schedules, PARTLY))):
            cls.model_validate(put(start, later))  # what a subclass looks at included, which ``validate`` leaves out
        section = validate(start)
        section._schedules = schedules
        return section

    @classmethod
    def _rounded(cls, values: Mapping[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
        return {path: round(value) if path[0] in cls.whole else value for path, value in values.items()}

    @model_serializer(mode="wrap")
    def _as_written(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return put(serialize(self), {path: schedule.as_written() for path, schedule in self._schedules.items()})

    def at(self, progress: float) -> Self:
        """The section as it is after a share ``progress`` in [0, 1] of the run."""
        if not self._schedules:
            return self
        now = put(dict(self), self._rounded(values_at(self._schedules, progress)))
        section = self.model_copy(update={name: now[name] for name, *_ in self._schedules})
        section._schedules = {}
        return section

    def ever(self, name: str) -> float:
        """The greatest value that a number of this section has over the run."""
        schedule = self._schedules.get((name,))
        return float(getattr(self, name)) if schedule is None else max(schedule.start, schedule.end)


class LoraConfig(Section):
    """Train a low-rank adapter on the language model instead of all weights; the base is then the reference."""

    rank: int = Field(16, ge=1)
    """Rank of the update."""
    alpha: float = Field(32.0, gt=0)
    """Scale of the update is alpha / rank."""
    vision: bool = False
    """Adapt the linear layers of the vision tower and projector too."""


class FamilyConfig(Section):
    """Facts about the model's family, where they are not listed (docs/models.md) or a checkpoint differs from them."""

    coordinates: Literal["relative_1000", "processed_pixels", "pixels", "location_tokens"] | None = None
    """Units in which the model writes boxes: 0..1000, pixels after the processor's resize, pixels of the original
    image, or <loc0000> to <loc1023>."""
    tower: tuple[str, ...] | None = None
    """Dotted names of the vision tower within parameter names, e.g. [visual]."""
    projector: tuple[str, ...] | None = None
    """Dotted names of the projector, e.g. [visual.merger]; [] if there is none."""
    pixels: Literal["patches", "tiles", "images", "prompts"] | None = None
    """What one entry of the processor's pixel values is: a patch; a tile, or an image that is always one tile; an image
    with all its tiles; or a prompt with all its images."""
    axes: Literal[1, 3] | None = None
    """Position axes: 3 with multimodal rotary positions, else 1."""
    reading: Literal["causal", "images", "prompt"] | None = None
    """What a prompt token sees: what is before it, also its whole image, or the whole prompt; null is causal."""
    chat: bool | None = None
    """Whether prompts go through the processor's chat template; null is true."""
    type_ids: str | None = None
    """Tensor that tells the model image tokens from text; null is mm_token_type_ids with 3 axes, else none."""
    notation: Literal["bbox_2d", "box_tokens", "ref_tags", "location_tokens", "lists"] | None = None
    """How the family itself writes boxes (docs/models.md); null is plain lists."""
    lora_targets: tuple[str, ...] | None = None
    """Linear layers of the language model that LoRA adapts; null takes the usual projections."""


class ModelConfig(Section):
    """Which model is trained, and which part of it."""

    path: str = "tiny"
    """``tiny`` (embedded), a local folder, or a hub id."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Data type of the weights. An update of 1e-6 is lost in bfloat16, so where such weights themselves are trained the
    optimiser keeps them in float32 too: 18 bytes per parameter with a reference, float32 under autocast takes 22."""
    autocast: Literal["auto", "no", "bfloat16"] = "auto"
    """Compute in this type where it is safe, with weights as they are; auto is bfloat16 on a GPU, unless bfloat16
    weights themselves are trained, and no on a CPU."""
    lora: LoraConfig | None = None
    """Train an adapter; null trains the weights themselves."""
    freeze_vision: bool = False
    """Keep the vision tower as it is."""
    freeze_projector: bool | None = None
    """Keep the projector, between tower and language model, as it is; null follows freeze_vision."""
    quantization: Literal["none", "nf4", "int8"] = "none"
    """Hold the base weights in 4 or 8 bits under a LoRA adapter (QLoRA). Needs a CUDA GPU and bitsandbytes."""
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3"] = "auto"
    """Attention of the vision tower and the repeated path; auto takes flash attention where it can run, else sdpa."""
    family: FamilyConfig | None = None
    """Facts about the model's family where it is not a known one."""
    min_pixels: int | None = Field(None, ge=1)
    """Images with fewer pixels are enlarged; null keeps the processor's own limit."""
    max_pixels: int | None = Field(None, ge=1)
    """Images with more pixels are shrunk; null keeps the processor's own limit."""
    trust_remote_code: bool = False
    """Let transformers run code that comes with a model. Only for models whose code you have read."""

    @field_validator("autocast", mode="before")
    @classmethod
    def _no_is_a_word(cls, value: Any) -> Any:
        return "no" if value is False else value  # as YAML reads it where it is not quoted, e.g. in a flag

    @model_validator(mode="after")
    def _parts_fit(self) -> ModelConfig:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels ({self.min_pixels}) is above max_pixels ({self.max_pixels})")
        if self.lora is None and self.quantization != "none":
            raise ValueError(f"quantization {self.quantization!r} trains an adapter on frozen weights; set lora too")
        if self.lora is not None and self.lora.vision and (self.freeze_vision or self.freeze_projector):
            raise ValueError("lora.vision adapts what freeze_vision or freeze_projector keeps as it is; choose one")
        if self.lora is not None and not self.lora.vision and self.freeze_projector is False:
            raise ValueError("with lora only the adapter is trained; lora.vision adapts the projector too")
        return self


StyleKind = Literal["method", "native", "plain"]
"""In whose words boxes are asked for and answered: the method's, those of the model's family, or plain lists."""
ScoreKind = Literal["written", "tokens", "asked"]


class TaskConfig(Section):
    """What is asked and how an answer is rewarded."""

    may_change = ("weights", "options")

    label: str | None = Field(None, pattern=r"^[\w.+-]+( [\w.+-]+)*$")
    """What the task is called in a run of several; null is its name. Tasks that differ need labels that differ."""
    name: str = "detection"
    """``detection``, ``many_classes``, ``classification``, ``grounding``, ``counting``, ``pointing``, ``segmentation``,
    ``vqa``, or your own as module:Class or file.py:Class."""
    think: bool = True
    """Ask for reasoning before the answer, and want it in the format reward."""
    style: StyleKind = "method"
    """In whose words boxes are asked for: the ``method``'s, the ``native`` ones of the model's family (without
    ``think`` also without answer tags), or ``plain`` lists. Every style is read, whichever was asked for."""
    template: str | None = None
    """Your own wording of the question, e.g. "{prompt} Be brief."; it holds {prompt}, or what the task asks for, e.g.
    {category}. Null asks in the task's own words."""
    weights: dict[str, float] | None = None
    """Factor of each reward by name, your own as module:function or file.py:function; null takes the task's own."""
    scores: ScoreKind = "written"
    """By which number held-out boxes are ranked: the confidence that the model wrote, how likely the tokens of the box
    were, or how far it says yes when asked about the box."""
    options: dict[str, Any] = Field(default_factory=dict)
    """What else the task can be told, e.g. {iou_threshold: 0.7}; docs/rewards.md lists them. A number, and a
    weight, may change over the run: {iou_threshold: {from: 0.5, to: 0.9}}."""

    @property
    def called(self) -> str:  # without the file of one of the user's own
        return self.label or self.name.rpartition(":")[2]


class RolloutConfig(Section):
    """How completions are sampled. Every field is explicit: no default of a library or checkpoint leaks in."""

    may_change = ("group_size", "temperature", "top_p")
    whole = ("group_size",)

    group_size: int = 8
    """G, completions per prompt; at least 2, the advantage compares them with each other."""
    max_new_tokens: int = Field(160, ge=1)
    """Longest completion."""
    temperature: float = Field(1.0, gt=0)
    """Divides the logits; 1 samples the policy itself."""
    top_k: int = Field(0, ge=0)
    """Keep the k most likely tokens; 0 keeps all."""
    prompts_at_once: int | None = Field(None, ge=1)
    """Prompts of a step that are answered at once; null takes all. Decoding takes about as long for 16 prompts as for
    4, so less only saves the memory of their keys and values."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Keep the most likely tokens up to this total probability; 1 keeps all."""
    extra: float = Field(0.0, ge=0)
    """Dynamic sampling: other prompts take the place of those whose answers all earned the same, and so teach nothing;
    at most this many times the prompts of a step are drawn besides. 0 draws none."""
    rest_steps: int = Field(0, ge=0)
    """Steps for which a prompt is not asked again after all its answers earned the same; 0 lets none rest."""
    hard_share: float = Field(0.0, ge=0, le=0.5)
    """Share of a step's prompts, those that earned most when last asked, whose place goes to those that earned least:
    these get two groups, compared as one. 0 treats all alike."""
    constrained: bool = False
    """Let completions follow the form of the task's answer and nothing else, token by token; what is learned from is
    the distribution of the tokens that are left. Needs llguidance."""
    engine: Literal["own", "vllm"] = "own"
    """Who samples: the policy itself, or vLLM servers that are given its weights (docs/serving.md)."""
    mode: Literal["server", "colocate"] = "server"
    """Where vLLM runs: as servers, or in this process, asleep while weights are learned."""
    urls: tuple[str, ...] = ()
    """Addresses of servers that are there, e.g. [http://127.0.0.1:8000]; the least loaded is asked."""
    serve: str | None = None
    """Command that starts a server here for as long as the run lasts, e.g. vllm serve; where there are no urls."""
    memory_share: float = Field(0.3, gt=0, le=0.95)
    """With colocate: share of the GPU's memory that vLLM takes while it samples."""
    served_model: str | None = None
    """Name of the model there; null takes the only one there is."""
    weights_folder: str | None = None
    """Folder that servers and trainer both see, through which weights go; null takes one in the run folder."""
    tolerance: float | None = Field(None, gt=0)
    """Nats by which policy and server may differ after weights were pushed; null is 0.001 in float32, else 0.25."""
    ahead: Literal[0, 1] = 0
    """Sample the next step while this one is learned from: the server is not idle, its weights one update older."""
    in_flight: int = Field(64, ge=1)
    """Most questions that servers are asked at once."""
    tries: int = Field(6, ge=1)
    """Tries of a question before the run is saved and stops."""
    answer_seconds: float = Field(600.0, gt=0)
    """Seconds after which a server that says nothing counts as hanging."""

    @model_validator(mode="after")
    def _group_of_at_least_two(self) -> RolloutConfig:
        if self.group_size < 2:
            raise ValueError(
                f"group_size is {self.group_size}, but GRPO compares the completions of a group: use at least 2"
            )
        return self

    @model_validator(mode="after")
    def _servers_can_do_it(self) -> RolloutConfig:
        if self.engine == "own":
            if self.urls or self.serve or self.ahead or self.mode == "colocate":
                raise ValueError("urls, serve, ahead and mode are vLLM's, and engine is own; set engine vllm")
            return self
        if self.mode == "colocate" and (self.urls or self.serve or self.ahead):
            raise ValueError("mode colocate samples in this process, while nothing is learned: no urls, serve or ahead")
        if self.mode == "server" and bool(self.urls) == bool(self.serve):
            raise ValueError("engine vllm needs urls, e.g. [http://127.0.0.1:8000], or serve, e.g. vllm serve")
        if self.top_k or self.top_p < 1:
            raise ValueError(
                "with engine vllm top_k stays 0 and top_p 1: a server's log-probabilities are of what is left"
            )
        if self.ahead and (self.rest_steps or self.hard_share):
            raise ValueError("ahead asks the next step before this one is known; rest_steps and hard_share look back")
        return self


class EngineConfig(Section):
    """How a step is computed. None of these changes what is learned, only time and memory."""

    shared_prefix: bool = True
    """Compute each image and prompt once per step; false repeats them for every completion."""
    self_check: bool = True
    """Compare the shared prefix with the repeated path before the first step; fall back to it where they differ."""
    memory_gib: float | None = Field(None, gt=0)
    """GiB that activations may take; null takes 60 % of what is free. What is null of micro_batch, prompts_at_once,
    checkpoint_prompts, checkpoint_completions and reuse_rollout_graph is chosen to fit."""
    card_gib: float | None = Field(None, gt=0)
    """GiB of the card that the run is for, which ``check``, ``--dry-run`` and the start of a run compare their estimate
    with; null takes this machine's GPU, if there is one."""
    micro_batch: int | None = Field(None, ge=1)
    """Completions that an update runs at once."""
    prompts_at_once: int | None = Field(None, ge=1)
    """Prompts that an update keeps the graph of at once, where it has to encode them again."""
    checkpoint_prompts: float | None = Field(None, ge=0, le=1)
    """Share of the layers that keep only their input while prompts and images are encoded, and compute the rest again
    in the backward pass (gradient checkpointing)."""
    checkpoint_completions: bool | None = None
    """The same for all layers while completions are scored."""
    reuse_rollout_graph: bool | None = None
    """Keep the graph of the encoded prompts while sampling, so that the update need not encode them again."""
    feature_cache_mib: float = Field(512.0, ge=0)
    """Image features kept from step to step where the vision tower is not trained; 0 keeps none."""


def section_of(annotation: Any) -> type[Section] | None:
    """The section behind an annotation such as ``LoraConfig | None`` or ``tuple[SourceConfig, ...]``."""
    options = [annotation, *getattr(annotation, "__args__", ())]
    return next((o for o in options if isinstance(o, type) and issubclass(o, Section)), None)

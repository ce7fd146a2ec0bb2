"""A server that samples with a policy of its own and takes weights, as vLLM does; and that can fail to take them.

with ServedPolicy(load_policy(...)) as server:
    server.stale = "weights"     # says 200 to an update and computes on with the old weights
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from support.runs import weights
from support.stub_server import Asked, StubServer
from visual_rft.policy.engine.draws import Draws
from visual_rft.policy.policy import Policy
from visual_rft.policy.prompt import Prompt
from visual_rft.vision.images import RenderedImage


class ServedPolicy(StubServer):
    """The stub with a model in it.

    Attributes:
        stale: "weights" takes no new ones; "images" remembers what the tower said about every image.
        versions: of the weights, as they were pushed.
        scale: factor of the log-probabilities it tells, 1 for an honest server.
    """

    def __init__(self, policy: Policy, **fields: Any) -> None:
        super().__init__(**fields)
        self.policy, self.stale, self.scale = policy, "", 1.0
        self.versions: list[str | None] = [None]
        self.paused = False
        self.features: dict[str, Any] = {}
        self.one_at_a_time = threading.Lock()
        self.others = self.told
        self.drop_token = False

    def told(self, path: str, body: Any) -> Any:
        if path.startswith("/pause"):
            self.paused = True
        elif path == "/resume":
            self.paused = False
        elif path == "/update_weights":
            assert self.paused
            self.take(Path(body["update_info"]["path"]) / "model.safetensors")
        elif path == "/finish_weight_update":
            self.versions.append(body["weight_version"])
        elif path == "/weight_info":
            return {"weight_version": self.versions[-1]}
        elif path == "/v1/load_lora_adapter":
            assert self.paused
            self.take(Path(body["lora_path"]) / "adapter_model.safetensors")
        return {}

    def take(self, file: Path) -> None:
        if self.stale == "weights":
            return
        if file.name.startswith("adapter"):
            from peft import set_peft_model_state_dict

            set_peft_model_state_dict(self.policy.model, load_file(file))
            return
        self.policy.model.load_state_dict(weights(file.parent))

    def answer(self, asked: Asked, fault: str | None) -> dict[str, Any]:
        if fault is not None:
            return super().answer(asked, fault)
        body = asked.body
        images = tuple(RenderedImage(str(hash(one.tobytes())), lambda one=one: one) for one in asked.images)
        with self.one_at_a_time, torch.no_grad():
            assert not self.paused
            policy = self.policy
            policy.sampling = replace(
                policy.sampling, max_new_tokens=body["max_tokens"], temperature=body["temperature"]
            )
            inputs = policy.prepare([Prompt("asked", asked.text, images)])
            known = self.features.get(images[0].key) if images else None
            prefix = policy.encode(inputs, known if self.stale == "images" else None)
            if images:
                self.features.setdefault(images[0].key, prefix.features)
            drawn = policy.sample(prefix, body["n"], Draws(body["seed"]))
        prompt_ids = inputs.tensors["input_ids"][0].tolist()
        choices = [self.choice(drawn, number) for number in range(body["n"])]
        if self.drop_token:
            prompt_ids = prompt_ids[:-1]
        return {"model": body["model"], "choices": choices, "prompt_token_ids": prompt_ids}

    def choice(self, drawn: Any, number: int) -> dict[str, Any]:
        length = int(drawn.lengths[0, number])
        logprobs = (drawn.logprobs[0, number, :length] * self.scale).tolist()
        return {
            "index": number,
            "finish_reason": "length" if bool(drawn.truncated[0, number]) else "stop",
            "message": {"role": "assistant", "content": drawn.text[0][number]},
            "token_ids": drawn.ids[0, number, :length].tolist(),
            "logprobs": {"content": [{"token": "", "logprob": one} for one in logprobs]},
        }

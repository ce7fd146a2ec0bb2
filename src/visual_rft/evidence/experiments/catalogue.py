"""All experiments by name, in the order in which ``visual-rft reproduce all`` runs them.

>>> EXPERIMENTS["few-shot-detection"].metrics[0]
'AP'
"""

from __future__ import annotations

from visual_rft.evidence.experiments.ablations import ABLATIONS
from visual_rft.evidence.experiments.description import Experiment
from visual_rft.evidence.experiments.few_shot import FEW_SHOT
from visual_rft.evidence.experiments.flat import FLAT
from visual_rft.evidence.experiments.grounding import GROUNDING_EXPERIMENTS
from visual_rft.evidence.experiments.joint import JOINT
from visual_rft.evidence.experiments.objectives import OBJECTIVES

EXPERIMENTS: dict[str, Experiment] = {
    **ABLATIONS, **FLAT, **FEW_SHOT, **GROUNDING_EXPERIMENTS, **JOINT, **OBJECTIVES,
}  # fmt: skip
"""Ablations come first: two others take their learning rates."""

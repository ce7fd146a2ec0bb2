"""Tables of answers to the tasks: tricks that must not pay, and right answers that must not be lost.

A module of a task has ``TASK``, ``TRICKS``, ``ROWS``, and in ``NAMES`` the rewards whose values the rows give.
"""

from support.answers import counting, many_classes, pointing, segmentation, vqa
from support.answers.kinds import Row, Trick, say

NEW_TASKS = (many_classes, counting, pointing, segmentation, vqa)

__all__ = ["NEW_TASKS", "Row", "Trick", "say"]

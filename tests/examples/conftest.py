"""The fixtures that the tests of several examples share."""

from task_runs import taken_up

__all__ = ["taken_up"]

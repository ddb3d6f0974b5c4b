"""The sweeper that conf/config.yaml selects: Hydra's basic one, with seeds that vary slowest and with studies.

Hydra imports its plugins at the start of every program that uses it: nothing heavy may be imported here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override


class MinuteloopSweeper(BasicSweeper):
    """Launches the cells of minuteloop.study.grid, several a task where asked."""

    def __init__(
        self, max_batch_size: int | None, params: dict[str, str] | None = None, cells_per_task: int = 1
    ) -> None:
        super().__init__(max_batch_size, params)
        self.cells_per_task = cells_per_task

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """Return the overrides of each task, in batches; `overrides` are those of the config that it was set up with.

        Hydra calls this method on the instance.
        """
        from minuteloop.study.grid import grid, tasks

        _, cells = grid(self.config)
        return list(self.split_overrides_to_chunks(tasks(cells, self.cells_per_task), max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose nothing: minuteloop.study.multirun.Sweep has checked all cells by now."""


@dataclass
class MinuteloopSweeperConf(BasicSweeperConf):
    """The options of Hydra's basic sweeper, and the cells that a task of the launcher trains one after the other."""

    _target_: str = "hydra_plugins.minuteloop_sweeper.MinuteloopSweeper"
    cells_per_task: int = 1


ConfigStore.instance().store(
    group="hydra/sweeper", name="minuteloop", node=MinuteloopSweeperConf, provider="minuteloop"
)

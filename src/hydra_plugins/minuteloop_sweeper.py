"""The sweeper that conf/config.yaml selects: Hydra's basic one, with seeds that vary slowest and with studies.

Hydra imports its plugins at the start of every program that uses it: nothing heavy may be imported here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper, BasicSweeperConf
from hydra.core.config_store import ConfigStore
from hydra.core.override_parser.types import Override


class MinuteloopSweeper(BasicSweeper):
    """Launches the cells of minuteloop.study.grid."""

    def split_arguments(self, overrides: list[Override], max_batch_size: int | None) -> list[list[list[str]]]:
        """Return the overrides of each cell, in batches; `overrides` are those of the config that it was set up with.

        Hydra calls this method on the instance.
        """
        from minuteloop.study.grid import grid

        _, cells = grid(self.config)
        return list(self.split_overrides_to_chunks(cells, max_batch_size))

    def validate_batch_is_legal(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose nothing: minuteloop.study.multirun.Sweep has checked all cells by now."""


@dataclass
class MinuteloopSweeperConf(BasicSweeperConf):
    """The options of Hydra's basic sweeper."""

    _target_: str = "hydra_plugins.minuteloop_sweeper.MinuteloopSweeper"


ConfigStore.instance().store(
    group="hydra/sweeper", name="minuteloop", node=MinuteloopSweeperConf, provider="minuteloop"
)

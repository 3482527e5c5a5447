"""The door through which Hydra finds the sweeper of `normtables run -m`; the logic is normtables.sweep's."""

from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """A grid of settings, or the runs of a table; the same id never runs twice, and a failed job costs itself."""

    def __init__(self, settings: list[str], table: int | None, name: str | None) -> None:
        self.settings, self.table, self.name = list(settings), table, name

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives and make its launcher."""
        from hydra.core.plugins import Plugins

        self.whole = config
        self.chosen = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run what the settings ask for and write the sweep's summary."""
        from normtables.sweep import sweep

        return sweep(self.settings, self.table, self.name, self.whole, self.chosen)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="normtables",
    node={"_target_": "hydra_plugins.normtables_sweeper.GridSweeper", "settings": [], "table": None, "name": None},
    provider="normtables",
)

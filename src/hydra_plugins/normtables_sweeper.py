"""The door through which Hydra finds the sweeper of `normtables run -m`; the logic is normtables.sweep's."""

import json
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class GridSweeper(Sweeper):
    """A grid of settings, a sweep file or a table; the same id never runs twice, and a failed job costs itself."""

    def __init__(self, words: str, name: str | None) -> None:
        self.words, self.name = json.loads(words), name

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives and make its launcher."""
        from hydra.core.plugins import Plugins

        self.chosen = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Run what the words ask for and write the sweep's summary."""
        from normtables.sweep import sweep

        return sweep(self.words, self.name, self.chosen)


ConfigStore.instance().store(
    group="hydra/sweeper",
    name="normtables",
    node={"_target_": "hydra_plugins.normtables_sweeper.GridSweeper", "words": "[]", "name": None},
    provider="normtables",
)

"""Language models of LSTM layers in three sizes (Zaremba et al. 2014)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from normtables.errors import UserError
from normtables.models import MODELS, Sizes, draw
from normtables.models.checks import check_dropout, check_width
from normtables.norms import Kit


@dataclass(frozen=True)
class Size:
    """Units of a layer, limit of the uniform initial weights, rate of dropout."""

    units: int
    limit: float
    dropout: float


SIZES = {"small": Size(200, 0.1, 0.0), "medium": Size(650, 0.05, 0.5), "large": Size(1500, 0.04, 0.65)}
DRAWN = ("weight", "weight_ih_l0", "weight_hh_l0", "bias", "bias_ih_l0", "bias_hh_l0")  # not the norm layers' gains


class LanguageModel(nn.Module):
    """Symbols [time, n] to scores [time, n, symbols]; the state behind a call is where the next one starts.

    Training and evaluation carry states of their own, [h and c, layers, n, units]; that of training is a buffer of the
    model's state, so that an interrupted run goes on from it.
    """

    carried: Tensor
    evaluated: Tensor
    by_example = {"carried": 2}  # buffers with something for each example of a batch, and in which dimension

    def __init__(self, kit: Kit, symbols: int, streams: int, layers: int, units: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding(symbols, units)
        self.layers = nn.ModuleList(kit.recurrent(units, units) for _ in range(layers))
        self.dropouts = nn.ModuleList(kit.dropout(dropout) for _ in range(layers + 1))
        self.head = kit.head(units, symbols)
        self.register_buffer("carried", torch.zeros(2, layers, streams, units))
        self.register_buffer("evaluated", torch.zeros(2, layers, streams, units), persistent=False)

    def forward(self, symbols: Tensor, fresh: bool = True) -> Tensor:
        """Scores of what comes next; `fresh`: from a state of zeros."""
        before = self.carried if self.training else self.evaluated
        states = []
        x = self.dropouts[0](self.embedding(symbols))
        for number, (layer, dropout) in enumerate(zip(self.layers, self.dropouts[1:])):
            h, c = before[:, number, None]
            x, state = layer(x) if fresh else layer(x, (h, c))
            states.append(torch.cat(state).detach().to(before.dtype))
            x = dropout(x)
        after = torch.stack(states, 1)
        if self.training:
            self.carried = after
        else:
            self.evaluated = after
        return self.head(x.flatten(0, 1)).unflatten(0, symbols.shape)


@MODELS.register("lstm", version=1)
def lstm(
    kit: Kit,
    sizes: Sizes,
    *,
    size: Literal["small", "medium", "large"] = "small",
    layers: int = 2,
    width: float = 1.0,
    dropout: float | None = None,
) -> nn.Module:
    """Zaremba et al. 2014 (arXiv 1409.2329), section 4.1: embedding, LSTM layers (there two), softmax.

    size: small (200 units a layer, weights from U(-0.1, 0.1), no dropout), medium (650, 0.05, 0.5) or large (1500,
    0.04, 0.65); all weights and biases, the embedding's too, are drawn so. width: factor on the units. dropout: rate
    behind the embedding and behind each layer; null: the size's own.
    """
    if "streams" not in sizes:
        raise UserError("model=lstm is a language model: take a text, dataset=ptb, wikitext2, topics or text")
    chosen = SIZES[size]
    rate = chosen.dropout if dropout is None else dropout
    check_width(width)
    check_dropout(rate)
    if layers < 1:
        raise UserError(f"model.layers={layers}: at least 1")
    units = max(1, round(width * chosen.units))
    model = LanguageModel(kit, sizes["outputs"], sizes["streams"], layers, units, rate)
    for part in (model.embedding, *model.layers, model.head):
        for name in DRAWN:
            if isinstance(getattr(part, name, None), Tensor):
                draw(part, lambda weight: nn.init.uniform_(weight, -chosen.limit, chosen.limit), name)
    return model

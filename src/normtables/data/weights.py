"""Files of published ImageNet weights: kept under the data root beside the data sets, read by `models.pretrained`."""

from __future__ import annotations

from normtables.data import files
from normtables.data.files import File, Layout, Source

TORCHVISION = "https://download.pytorch.org/models"
WEIGHTS = {
    "alexnet_weights": File(
        "alexnet-owt-7be5be79.pth",
        244_408_911,
        "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
        (f"{TORCHVISION}/alexnet-owt-7be5be79.pth",),
    ),
    "googlenet_weights": File(
        "googlenet-1378be20.pth",
        52_147_000,
        "1378be20a8e875cf1568b8a71654e704449655e34711a959a38b04fb34905cef",
        (f"{TORCHVISION}/googlenet-1378be20.pth",),
        about=True,
    ),
}
files.SOURCES |= {
    name: Source(
        layouts=(Layout("weights", (file,)),),
        download=file.bytes,
        licence="torchvision, BSD 3-clause; trained on ImageNet (non-commercial research and education only)",
    )
    for name, file in WEIGHTS.items()
}

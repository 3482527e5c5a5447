"""Published weights as files that are listed, fetched and begun with."""

import hashlib
from types import SimpleNamespace

import pytest
import torch
from torchvision.models import GoogLeNet

from normtables import making
from normtables.data import fetching, files
from normtables.data.files import File, Layout, Source
from normtables.errors import UserError
from normtables.models import googlenet
from normtables.training.run import execute


@pytest.fixture
def published(server, monkeypatch):
    """A network's weights on a server, declared to be torchvision's."""
    folder, url = server
    net = GoogLeNet(init_weights=False)
    torch.save(net.state_dict(), folder / "new")
    digest = hashlib.sha256((folder / "new").read_bytes()).hexdigest()
    monkeypatch.setattr(googlenet, "FILE", f"googlenet-{digest[:8]}.pth")
    (folder / "new").rename(folder / googlenet.FILE)
    file = File(googlenet.FILE, 10, digest, (f"{url}/{googlenet.FILE}",), about=True)
    monkeypatch.setitem(files.SOURCES, "googlenet_weights", Source((Layout("weights", (file,)),), 10, "BSD"))
    return net


def test_fetch_list_and_begin(published, root, declare, cifar_npy, composer, results):
    """The weights come after the configuration's own draw of the initial ones."""
    declare("cifar10", "cifar10")
    settings = {"model": "googlenet", "model.weights": "imagenet", "norm": "bn", "dataset": "cifar10"}
    settings |= {"dataset.valid": 20, "budget": "1steps", "batch_size": 4, "optim": "sgd", "optim.lr": 1e-9}
    settings |= {"init": "he_normal", "runtime.keep_weights": True, "data.root": str(root), "results": str(results)}
    with pytest.raises(UserError, match=r"is missing; run `normtables data fetch googlenet_weights`"):
        execute(composer.config(settings))
    assert not list(results.rglob("record.json"))
    assert files.state("googlenet_weights", root) == "missing"
    assert files.download_bytes("googlenet_weights", root) == 10
    fetching.fetch("googlenet_weights", root)
    rows = {row["name"]: row for row in files.listing(root)}
    assert rows["googlenet_weights"]["state"] == "present"
    record = execute(composer.config(settings))
    assert record.status == "finished"
    kept = torch.load(results / "runs" / record.id / "weights.pt", weights_only=True)
    expected = published.state_dict()
    assert torch.allclose(kept["inception4b.branch3.1.0.weight"], expected["inception4b.branch3.1.conv.weight"])
    assert not torch.allclose(kept["conv1.1.0.running_mean"], expected["conv1.bn.running_mean"]), "a batch was seen"
    assert kept["head.weight"].shape == (10, 1024)
    assert kept["head.weight"].std().item() == pytest.approx((2 / 1024) ** 0.5, rel=0.05)


def test_a_plan_counts_what_is_to_be_loaded_once(published, root, declare, mnist_files, monkeypatch):
    """Weights, and the sets that a pair is made of, whichever way round."""
    monkeypatch.setattr(making, "default_root", lambda: root)
    monkeypatch.setitem(files.SOURCES, "usps", Source((), 1000, "none"))
    monkeypatch.setattr(files, "state", lambda name, *rest: "missing")
    mnist_files("mnist")
    declare("mnist", "mnist")
    runs = {}
    for weights in ("imagenet", "none"):
        for source, target in (("mnist", "usps"), ("usps", "mnist")):
            dataset = {"name": "digits_domains", "source": source, "target": target}
            model = {"name": "googlenet", "weights": weights}
            runs[weights + source] = SimpleNamespace(facts={"dataset": dataset, "model": model})
    assert making.space(SimpleNamespace(runs=runs)) == (10 + 1000 + 123, 0)

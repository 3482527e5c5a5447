"""Domain adaptation as a task: batches, losses, AdaBN by hand, and that nobody reads the target's labels."""

import copy
from itertools import islice

import pytest
import torch
from torch import nn
from torch.nn import functional

from normtables.data import Domains, Split
from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS, Kit
from normtables.tasks import TASKS, Extending, Paced, Whole, ways
from normtables.tasks.adversary import Adversarial, reversal
from normtables.tasks.discrepancies import covariances, kernels, means
from normtables.tasks.features import captured
from normtables.tasks.order import shuffled
from normtables.tasks.ways import TARGET, WAYS
from normtables.training import run
from normtables.training.run import execute

CLASSES, WIDTH = 3, 6
DEFAULTS = {"layers": ["outputs"], "critic": [4], "ways": ["source"]}
LOSSES = ["ddc", "dan", "coral", "revgrad"]
HIDDEN = "4"  # behind the nonlinearity of `net`'s second hidden layer


def domains(n=60, m=50, tests=None):
    """Three classes at the corners of a simplex; the target's are stretched and moved."""
    drawn = torch.Generator().manual_seed(8)

    def examples(count, factor, offset):
        targets = torch.arange(count) % CLASSES
        inputs = functional.one_hot(targets, WIDTH) * 2.0 + torch.randn(count, WIDTH, generator=drawn)
        return Split(factor * inputs + offset, targets)

    target = examples(m, 2.0, 1.5)
    test = examples(tests, 2.0, 1.5) if tests else target
    return Domains(examples(n, 1.0, 0.0), examples(20, 1.0, 0.0), target, test, CLASSES)


def task_of(data=None, batch_size=10, seed=0, **options):
    return TASKS["adapt"].factory(data or domains(), batch_size, seed, **DEFAULTS | options)


def net(norm="bn", widths=(7, 5), dropout=0.0, seed=0):
    torch.manual_seed(seed)
    model = MODELS.build(
        {"name": "mlp", "widths": list(widths), "dropout": dropout},
        Kit(METHODS.build({"name": norm})),
        {"inputs": (WIDTH,), "outputs": CLASSES},
    )
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d):  # as after a training
            nn.init.normal_(layer.weight, 1, 0.3)
            nn.init.normal_(layer.bias, 0, 0.3)
            nn.init.normal_(layer.running_mean, 0, 0.3)
    return model


def told(call, *parts):
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    for part in parts:
        assert part in str(error.value)


def assess(task, model):
    model.eval()
    with torch.no_grad():
        return task.evaluate(model)


# batches


def test_what_the_trainer_is_told():
    task = task_of(domains(n=65))
    assert task.clock == {"step": 1, "epoch": 6}
    assert task.sizes == {"inputs": (WIDTH,), "outputs": CLASSES}
    assert (task.score, task.better) == ("test/accuracy", "higher")
    assert task.chance == pytest.approx(100 * 17 / 50)
    assert isinstance(task, Extending)
    assert isinstance(task, Paced)
    assert isinstance(task, Whole)
    inputs, targets = task.examples()
    assert (len(inputs), len(targets)) == (65, 65)


def test_without_a_loss_no_target_is_looked_at():
    assert all(batch.others is None for batch in islice(task_of().batches(net(), 0), 8))


def test_batches_are_an_epoch_of_either_domain_in_an_order_of_its_own():
    data = domains(60, 60)
    task = task_of(data, loss="ddc", seed=3)
    batches = list(islice(task.batches(net(), 0), 12))
    for split, part in ((data.train, "inputs"), (data.target, "others")):
        rows = [torch.cat([getattr(b, part) for b in batches[i : i + 6]]) for i in (0, 6)]
        for seen in rows:
            assert torch.equal(seen.sort(0).values, split.inputs.sort(0).values)
        assert not torch.equal(*rows)
    where = [(data.train.inputs == row).all(1).nonzero().item() for row in batches[0].inputs]
    assert torch.equal(batches[0].targets, data.train.targets[where])
    others = [(data.target.inputs == row).all(1).nonzero().item() for row in batches[0].others]
    assert where != others


def test_the_stream_can_begin_anywhere():
    task = task_of(domains(60, 47), loss="coral", seed=2)
    task.pace(40)
    whole = list(islice(task.batches(net(), 0), 30))
    for batch, other in zip(whole[17:], task.batches(net(), 17)):
        assert all(torch.equal(a, b) for a, b in zip(batch[:3], other[:3]))
        assert batch.progress == other.progress


def test_progress_is_the_share_of_the_run():
    task = task_of(loss="revgrad")
    task.pace(20)
    assert [batch.progress for batch in islice(task.batches(net(), 0), 25)] == [min(1, i / 20) for i in range(25)]


def test_images_of_both_domains_are_changed_and_not_alike():
    data = domains(40, 40)
    train, target = (
        Split(torch.arange(40.0)[:, None, None, None] + torch.rand(1, 1, 8, 8), split.targets)
        for split in (data.train, data.target)
    )
    data = Domains(train, train, target, target, CLASSES)
    batch = next(task_of(data, batch_size=40, loss="ddc", augment="flip").batches(net(), 0))
    numbers = [images.mean((1, 2, 3)).sub(train.inputs[0].mean()).round().long() for images in batch[::2][:2]]
    flipped = [
        torch.tensor([not torch.equal(x, split.inputs[i]) for x, i in zip(images, number)])
        for images, number, split in zip((batch.inputs, batch.others), numbers, (train, target))
    ]
    assert all(5 < part.sum() < 35 for part in flipped)
    assert not torch.equal(*flipped)


# losses


def test_without_a_loss_it_is_the_cross_entropy():
    task, model = task_of(), net()
    batch = next(task.batches(model, 0))
    assert torch.equal(task.loss(model, batch), functional.cross_entropy(model(batch.inputs), batch.targets))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_loss_is_added_to_it_with_its_weight(loss, apart):
    layers = [HIDDEN] if loss == "revgrad" else [HIDDEN, "outputs"]
    task = task_of(loss=loss, weight=0.3, layers=layers, apart=apart)
    task.pace(10)
    model = task.extend(net())
    network = model.network if loss == "revgrad" else model
    batch = list(islice(task.batches(model, 0), 4))[3]
    batch = batch._replace(inputs=batch.inputs.double(), others=batch.others.double())
    model.double()
    found = task.loss(model, batch)

    def through(x):
        hidden = network[:5](x)
        return [hidden] if loss == "revgrad" else [hidden, network[5:](hidden)], network[5:](hidden)

    if apart:
        (source, outputs), (target, _) = through(batch.inputs), through(batch.others)
    else:
        both, outputs = through(torch.cat([batch.inputs, batch.others]))
        source, target, outputs = [x[:10] for x in both], [x[10:] for x in both], outputs[:10]
    if loss == "revgrad":
        added = model.dispute(source[0], target[0], 0.3)
        assert reversal(0.3) > 0.9
    else:
        distance = {"ddc": means, "dan": kernels("linear"), "coral": covariances}[loss]
        added = sum(distance(a, b) for a, b in zip(source, target))
    torch.testing.assert_close(found, functional.cross_entropy(outputs, batch.targets) + 0.3 * added)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_finite_and_nothing_stays_on_the_model(loss):
    task = task_of(loss=loss, layers=[HIDDEN])
    model = task.extend(net())
    model.train()
    before = list(model.state_dict())
    task.loss(model, next(task.batches(model, 3))).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    assert list(model.state_dict()) == before


def test_hooks_go_when_the_pass_fails():
    task, model = task_of(loss="ddc", layers=[HIDDEN]), net()
    batch = next(task.batches(model, 0))
    with pytest.raises(RuntimeError):
        task.loss(model, batch._replace(others=torch.zeros(10, WIDTH + 1), inputs=torch.zeros(10, WIDTH + 1)))
    assert not any(part._forward_hooks for part in model.modules())


def test_a_compiled_model_gives_the_same_loss():
    task, model = task_of(loss="dan", layers=[HIDDEN]), net("none")
    batch = next(task.batches(model, 0))
    expected = task.loss(model, batch)
    model.compile(backend="eager")
    model(batch.inputs)
    assert torch.equal(task.loss(model, batch), expected)


def test_the_critic_fits_the_layer_and_building_it_changes_nothing():
    task, model = task_of(loss="revgrad", layers=["1"], critic=[9, 8]), net(dropout=0.4)
    before, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    made = task.extend(model)
    assert isinstance(made, Adversarial)
    assert made.critic[0].in_features == WIDTH
    assert [part.training for part in model.modules()] == modes
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_hidden_is_what_the_last_linear_layer_is_given():
    model = net()
    x = torch.randn(4, WIDTH)
    with captured(model, ["hidden", HIDDEN, "outputs"]) as found:
        outputs = model(x)
    assert torch.equal(model[-1](found["hidden"]), outputs)
    assert "outputs" not in found


# AdaBN


def by_hand(model, target, tested, adapted):
    """Outputs on `tested` when the hidden layers numbered in `adapted` have the statistics of `target`."""
    parts, hidden = list(model.double()), []
    for i, (linear, pair) in enumerate(zip(parts[2:-1:2], parts[3:-1:2])):
        norm = pair[0]
        x, y = (part @ linear.weight.T for part in (target, tested))
        mean, variance = norm.running_mean, norm.running_var
        if i in adapted:
            mean, variance = x.mean(0), x.var(0, correction=0)
        x, y = (norm.weight * (part - mean) / (variance + norm.eps).sqrt() + norm.bias for part in (x, y))
        target, tested = x.relu(), y.relu()
        hidden.append(tested)
    return tested @ parts[-1].weight.T + parts[-1].bias


@pytest.mark.parametrize(
    ("adapted_layers", "adapted"), [(None, {0, 1}), (1, {0}), (2, {0, 1}), (-1, {1}), (-2, {0, 1})]
)
@pytest.mark.parametrize("examples", [None, 20])
def test_adabn_by_hand_layer_by_layer(adapted_layers, adapted, examples):
    data = domains(tests=40)
    task = task_of(data, seed=5, ways=["adabn", "source"], adapted_layers=adapted_layers, target_examples=examples)
    model = net().double().eval()
    data = run.on(data, torch.device("cpu"), torch.float64)
    task = task_of(data, seed=5, ways=["adabn", "source"], adapted_layers=adapted_layers, target_examples=examples)
    seen = data.target.inputs[shuffled(50, 5, TARGET)[:examples]]
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected = by_hand(copy.deepcopy(model), seen, data.test.inputs, adapted)
        plain = by_hand(copy.deepcopy(model), seen, data.test.inputs, set())
        with task.ways.adapted(model):
            torch.testing.assert_close(model(data.test.inputs), expected)
        found = task.evaluate(model)
    right = [100 * (x.argmax(1) == data.test.targets).double().mean().item() for x in (expected, plain)]
    assert [found["test/accuracy_adabn"], found["test/accuracy_source"]] == pytest.approx(right)
    assert found["test/accuracy"] == found["test/accuracy_adabn"]
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_cumulative_statistics_are_averages_over_whole_batches():
    data = domains(m=50)
    task, model = task_of(data, batch_size=20, ways=["adabn"], statistics="cumulative", seed=1), net().eval()
    seen = data.target.inputs[shuffled(50, 1, TARGET)]
    with torch.no_grad(), task.ways.adapted(model):
        expected = torch.stack([model[2](part).mean(0) for part in seen[:40].split(20)]).mean(0)
        torch.testing.assert_close(model[3][0].running_mean, expected)


def test_dropout_is_off_and_a_failure_puts_the_statistics_back():
    task, model = task_of(ways=["adabn"]), net(dropout=0.5).eval()
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()

    def fail():
        with torch.no_grad(), task.ways.adapted(model):
            assert not torch.equal(model[3][0].running_mean, before["3.0.running_mean"])
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), random)


# evaluation


def test_what_an_evaluation_says():
    ways = ["adabn", "source", "sa", "adabn_coral"]
    task = task_of(ways=ways, features=HIDDEN, dimension=2, shift=True)
    found = assess(task, net())
    expected = ["valid/loss", "valid/accuracy", "test/accuracy", *(f"test/accuracy_{way}" for way in ways)]
    layers = ["3.0", "5.0"]
    assert list(found) == [*expected, *(f"shift/{n}" for n in layers), *(f"shift_adabn/{n}" for n in layers)]
    assert all(0 <= found[name] <= 100 for name in expected[1:])
    assert found["shift/3.0"] == found["shift_adabn/3.0"] > 0


def test_the_statistics_are_taken_once_an_evaluation(monkeypatch):
    taken, original = [], ways.reestimate
    monkeypatch.setattr(ways, "reestimate", lambda *args, **known: taken.append(original(*args, **known)))
    assess(task_of(ways=["adabn", "adabn_features", "source"], classifier="nearest", shift=True), net())
    assert len(taken) == 1
    assess(task_of(ways=["source"]), net())
    assert len(taken) == 1


def test_shifts_are_of_the_layers_inputs_and_fall_with_the_earlier_layers_adapted():
    """Domains that differ in first moments alone: behind an adapted first layer they are the same."""
    data = domains(60, 60)
    data = Domains(data.train, data.valid, Split(3 * data.train.inputs + 5, data.train.targets), data.test, CLASSES)
    task, model = task_of(data, shift=True), net()
    with torch.no_grad():
        model[3][0].running_mean.copy_(model[2](data.train.inputs).mean(0))
        model[3][0].running_var.copy_(model[2](data.train.inputs).var(0, correction=0))
    found = assess(task, model)
    assert found["shift/5.0"] > 0.1
    assert found["shift_adabn/5.0"] == pytest.approx(0, abs=1e-6)


def test_aligned_features_of_the_source_are_those_with_its_own_statistics():
    """adabn_features with 1-NN, by hand."""
    data = domains(tests=30)
    task, model = task_of(data, ways=["adabn_features"], features=HIDDEN, classifier="nearest"), net().eval()
    with torch.no_grad():
        own = model[:5](data.train.inputs).double()
        with task.ways.adapted(model):
            seen, tested = (model[:5](split.inputs).double() for split in (data.target, data.test))
    own = (own - own.mean(0)) / own.std(0, correction=0)
    tested = (tested - seen.mean(0)) / seen.std(0, correction=0)
    said = data.train.targets[torch.cdist(tested, own).argmin(1)]
    expected = 100 * (said == data.test.targets).double().mean().item()
    assert assess(task, model)["test/accuracy"] == pytest.approx(expected)


@pytest.mark.parametrize("part", ["target", "test"])
def test_the_targets_labels_are_never_read(part):
    """Other ones, of a class that there is not: same weights, same classes said of the test examples."""
    weights, said = [], []
    for garbage in (False, True):
        data = domains(tests=40)
        if garbage:
            split = getattr(data, part)
            made = Split(split.inputs, torch.full_like(split.targets, 0 if part == "test" else -9))
            data = Domains(**{**vars(data), part: made})
        task = task_of(data, loss="revgrad", layers=[HIDDEN], ways=[*WAYS], features=HIDDEN, dimension=2, shift=True)
        task.pace(5)
        model = task.extend(net())
        model.train()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        for batch in islice(task.batches(model, 0), 5):
            optimizer.zero_grad()
            task.loss(model, batch).backward()
            optimizer.step()
        found = assess(task, model)
        weights.append(model.state_dict())
        with torch.no_grad(), task.ways.adapted(model):
            said.append((task.ways.classes(model), {k: v for k, v in found.items() if not k.startswith("test/")}))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=0)
    assert torch.equal(said[0][0], said[1][0])
    assert said[0][1] == said[1][1]


# runs


NETWORK = {"model.widths": [7, 5], "model.dropout": 0.3, "norm": "bn", "batch_size": 10, "optim.lr": 0.05}
NETWORK |= {"budget": "30steps", "evaluate": "7steps", "runtime.checkpoint": 0}
FITTED = {"norm": "none", "budget": "0steps", "batch_size": 10}


@pytest.fixture
def adapting(composer, monkeypatch, tmp_path):
    """Makes configurations of runs of this task in a folder; the last call's options are those used."""
    monkeypatch.setattr(run, "load", lambda *args: domains())

    def make(folder, task=None, model="mlp", **settings):
        options = DEFAULTS | (task or {})
        monkeypatch.setattr(
            TASKS, "build", lambda named, data, batch, seed: TASKS["adapt"].factory(data, batch, seed, **options)
        )
        known = NETWORK if model == "mlp" else FITTED
        return composer.config({"model": model, **known, **settings, "results": str(tmp_path / folder)})

    return make


@pytest.mark.parametrize("loss", ["none", "revgrad", "dan"])
def test_evaluation_changes_nothing_of_the_training(adapting, loss):
    common = {"loss": loss, "layers": ["outputs"]}
    plain = execute(adapting("plain", common))
    rich = {"ways": [*WAYS], "dimension": 2, "classifier": "nearest", "shift": True}
    watched = execute(adapting("watched", common | rich))
    assert watched.status == "finished"
    assert watched.facts["weights"] == plain.facts["weights"]
    assert watched.final["valid/loss"] == plain.final["valid/loss"]
    assert watched.final["test/accuracy_source"] == plain.final["test/accuracy"]
    assert "shift_adabn/3.0" in watched.final


@pytest.mark.parametrize("loss", ["none", *LOSSES])
def test_a_run_that_was_killed_goes_on_to_the_same_numbers(adapting, same_in_two_parts, loss):
    options = {"loss": loss, "layers": ["outputs"], "ways": ["adabn", "source"]}
    _, rows = same_in_two_parts(adapting("whole", options), adapting("torn", options), step=21)
    assert [row["step"] for row in rows] == [7, 14, 21, 28, 30]


@pytest.mark.parametrize("precision", ["float64", "bfloat16"])
@pytest.mark.parametrize("loss", LOSSES)
def test_every_precision(adapting, loss, precision):
    record = execute(adapting("a", {"loss": loss, "layers": ["outputs"], "ways": ["adabn"]}, precision=precision))
    assert record.status == "finished"


def test_features_need_no_training(adapting):
    options = {"ways": ["features", "gfk"], "dimension": 2, "classifier": "nearest", "features": "outputs"}
    record = execute(adapting("a", options, "features"))
    assert list(record.final) == ["test/accuracy", "test/accuracy_features", "test/accuracy_gfk"]
    assert record.final["test/accuracy_features"] > 60
    assert record.facts["steps"] == 0
    told(lambda: execute(adapting("b", options, "features", budget="3steps")), "budget=0steps")


def test_a_classical_model_is_fitted_to_the_source(adapting):
    record = execute(adapting("a", {}, "naive_bayes"))
    assert record.final["valid/accuracy"] > 80


# mistakes


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"ways": ["adabm"]}, ["did you mean 'adabn'"]),
        ({"ways": []}, ["at least one way"]),
        ({"weight": -1.0}, ["weight=-1.0"]),
        ({"loss": "revgrad", "layers": ["1", "2"]}, ["exactly one"]),
        ({"loss": "ddc", "layers": []}, ["at least one part"]),
        ({"critic": [0]}, ["critic=[0]"]),
        ({"target_examples": 1}, ["target_examples=1", "at least 2"]),
        ({"augment": "flip"}, ["images"]),
    ],
    ids=str,
)
def test_impossible_options(options, parts):
    told(lambda: task_of(**options), *parts)


@pytest.mark.parametrize(
    ("options", "norm", "parts"),
    [
        ({"ways": ["adabn"]}, "none", ["AdaBN", "norm=bn"]),
        ({"shift": True}, "ln", ["AdaBN", "norm=bn"]),
        ({"ways": ["adabn"], "adapted_layers": 3}, "bn", ["adapted_layers=3", "2 norm layers"]),
        ({"ways": ["adabn"], "adapted_layers": 0}, "bn", ["adapted_layers=0"]),
        ({"loss": "ddc", "layers": ["head"]}, "bn", ["no part 'head'"]),
        ({"ways": ["coral"], "features": "pool"}, "bn", ["no part 'pool'"]),
        ({"ways": ["adabn_sa"], "dimension": 6}, "bn", ["dimension=6", "1 to 5"]),
        ({"loss": "revgrad", "layers": [""]}, "bn", ["no part ''"]),
    ],
    ids=str,
)
def test_what_the_model_lacks_is_told_before_it_is_trained(options, norm, parts):
    told(lambda: task_of(**options).extend(net(norm)), *parts)


def test_batches_that_are_larger_than_a_domain():
    told(lambda: task_of(domains(60, 50), batch_size=61), "source has 60")
    told(lambda: task_of(domains(60, 50), batch_size=55, loss="ddc"), "target has 50")
    task_of(domains(60, 50), batch_size=55)


def test_a_model_without_classes_has_no_source_way():
    model = MODELS.build({"name": "features"}, Kit(METHODS.build({"name": "none"})), {"inputs": (WIDTH,), "outputs": 3})
    told(lambda: assess(task_of(), model), "no classes", "ways=[features]")
    told(lambda: MODELS.build({"name": "features"}, Kit(METHODS.build({"name": "bn"})), {}), "norm=none")

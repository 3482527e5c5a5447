"""Two processes that make a run together, by gloo on the CPU: the numbers of one, its record, its end, its errors."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.distributed import TCPStore
from torch.nn.modules.batchnorm import _BatchNorm

from normtables import processes
from normtables.__main__ import main
from normtables.config import facts, run_id
from normtables.data import DATASETS
from normtables.errors import UserError
from normtables.models import MODELS
from normtables.norms import METHODS
from normtables.norms.bn import BatchNorm1d, BatchNorm2d
from normtables.norms.together import synchronise
from normtables.optim import OPTIMIZERS
from normtables.records import Store
from normtables.schema import register_schema
from normtables.tasks import TASKS
from normtables.tasks.classify import Classify
from normtables.tasks.language import Language
from normtables.training import run
from normtables.training.run import execute
from normtables.world import ALONE, World, joined

RUN = {"precision": "float64", "batch_size": 24, "budget": "4steps", "evaluate": "2steps", "optim.momentum": 0.9}
RUN |= {"runtime.keep_weights": True, "runtime.checkpoint": 0}
CNN = {"model": "cnn4", "model.widths": [2, 3], "model.hidden": 5, "model.dropout": [0.2, 0.3, 0.5]}
LSTM = {"dataset": "topics", "dataset.task.unroll": 4, "model": "lstm", "model.width": 0.02, "model.dropout": 0.3}
OWN = {
    "brn": {"norm.warmup": 1, "norm.r_until": 4, "norm.d_until": 3},
    "dbn": {"norm.alpha": "1/m", "norm.gradient": "batch", "norm.initial": "random"},
    "normprop": {"norm.inputs": "channel"},
    "riemannian": {"norm.rule": "adam_g"},
    "wn": {"norm.data_init": True},
}
RUNS = {norm: CNN | {"norm": norm, **OWN.get(norm, {})} for norm in METHODS}
RUNS |= {
    "bn, statistics without gradient": CNN | {"norm": "bn", "norm.flow": False},
    "bn, running statistics": CNN | {"norm": "bn", "norm.use": "running"},
    "brn without gradient": CNN | {"norm": "brn", "norm.flow": False, **OWN["brn"]},
    "dbn of the library": {
        "norm": "dbn",
        "norm.forward": "batch",
        "norm.gradient": "batch",
        "norm.averaged": "inverse_sigma",
        "norm.epsilon_in": "variance",
        "norm.alpha": 0.3,
    },
    "bn behind maxout, bounded filters": {"model": "maxout", "model.width": 0.02, "norm": "bn", "init": "he_normal"},
    "augmented images, by class": CNN
    | {"norm": "bn", "dataset.task.augment": "flip_crop", "dataset.task.batches": "by_class"},
    "two parts that are measured apart": {"norm": "bn", "dataset.task.gap": 2},
    "a schedule that ends the run": {"norm": "bn", "schedule": "newbob", "evaluate": "1steps"},
    "windows of recordings": {"dataset": "vowels", "dataset.bands": 8, "norm": "bn", "model.widths": [6]},
    "labels that are missing": {"dataset": "synthetic_tasks", "norm": "bn", "model.widths": [6]},
    "lstm": LSTM | {"norm": "none"},
    "lstm, ln": LSTM | {"norm": "ln"},
    "lstm, frame-wise": LSTM | {"norm": "bn_recurrent"},
    "lstm, per step": LSTM | {"norm": "bn_recurrent", "norm.variant": "per_step"},
    "lstm, evaluated by batches": LSTM | {"norm": "bn_recurrent", "norm.evaluation": "published"},
}


@pytest.fixture(scope="module")
def context():
    """New processes forked from a server that has imported what a run needs."""
    found = multiprocessing.get_context("forkserver")
    rooms = (DATASETS, TASKS, MODELS, METHODS, OPTIMIZERS)
    own = {entry.factory.__module__ for room in rooms for entry in room.values()} | {run.__name__}
    found.set_forkserver_preload(["pytest", "sklearn.datasets", "torch._inductor", *sorted(own)])
    return found


@pytest.fixture
def ports():
    """So many meeting points, kept by this process as torchrun keeps them."""
    kept = []

    def make(count):
        found = [TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) for _ in range(count)]
        kept.extend(found)
        return [store.port for store in found]

    return make


def as_torchrun(rank, size, port, call, args, errors):
    """A process's life: what torchrun tells it, then the call; its standard error goes into a file."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    torch.set_num_threads(1)
    register_schema()
    try:
        call(*args)
    except Exception:
        traceback.print_exc()
        sys.exit(1)


@pytest.fixture
def started(context, ports, tmp_path):
    """Begin the processes of a run; they are gone at the end."""
    everyone = []

    def start(call, *args, size=2):
        [port] = ports(1)
        found = [
            context.Process(target=as_torchrun, args=(rank, size, port, call, args, tmp_path / f"errors{rank}"))
            for rank in range(size)
        ]
        for process in found:
            process.start()
        everyone.extend(found)
        return found

    yield start
    for process in everyone:
        process.kill()
        process.join()


@pytest.fixture
def ended(started, tmp_path):
    """Let processes make a call to its end: their exit codes and what they print to standard error, line by line."""

    def end(call, *args, size=2):
        codes = []
        for process in started(call, *args, size=size):
            process.join()
            codes.append(process.exitcode)
        return codes, [line for rank in range(size) for line in (tmp_path / f"errors{rank}").read_text().splitlines()]

    return end


def each(cfgs):
    """Make runs one after the other; the processes meet once, as meeting takes longer than such runs."""
    with joined(lambda: torch.device("cpu")) as world:
        run.joined = lambda choose: nullcontext(world)
        for cfg in cfgs:
            execute(cfg)


def weights(cfg):
    return torch.load(Store(cfg.results).folder(run_id(cfg)) / "weights.pt", weights_only=True)


def rows(cfg):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in Store(cfg.results).history(run_id(cfg))]


def same(cfg, other, **limits):
    """Histories, records and weights of two folders agree to rounding, and but for what says how they were made."""
    one, two = (Store(c.results).read(run_id(c)) for c in (cfg, other))
    assert (one.status, one.config, one.score) == (two.status, two.config, two.score)
    assert {"batch_statistics", "processes"} == set(two.facts) - set(one.facts)
    kept = [k for k in one.facts if k not in ("seconds", "steps_per_second", "weights")]
    assert [one.facts[k] for k in kept] == [two.facts[k] for k in kept]
    first, second = rows(cfg), rows(other)
    assert len(first) == len(second)
    for row, expected in zip(second, first):
        assert row == pytest.approx(expected, rel=1e-6, nan_ok=True)
    torch.testing.assert_close(weights(other), weights(cfg), **(limits or {"rtol": 1e-7, "atol": 1e-9}))


@pytest.fixture
def pair(composer, tmp_path):
    """Settings to configurations of one run in a folder for one process and in one for two."""

    def make(**settings):
        return [composer.config(RUN | settings | {"results": str(tmp_path / n)}) for n in ("one", "two")]

    return make


def test_two_processes_compute_what_one_does(pair, ended):
    """Every method, the options of some, every task of the kind, dropout: statistics of the whole batch are shared."""
    pairs = {name: pair(**settings) for name, settings in RUNS.items()}
    assert ended(each, [two for _, two in pairs.values()]) == ([0, 0], [])
    for name, (one, two) in pairs.items():
        print(name)
        execute(one)
        same(one, two)


def test_per_device_statistics_are_those_of_each_part(pair, ended):
    """The weights are those of ghost batches of half the size, whose statistics are of the same examples; the running
    statistics are means over the processes. The number of processes names such a run."""
    [one, two] = pair(**CNN, norm="bn", batch_statistics="per_device", processes=2)
    ghost, whole = (pair(**CNN, **settings)[0] for settings in ({"norm": "bn", "norm.ghost": 12}, {"norm": "bn"}))
    assert ended(each, [two]) == ([0, 0], [])
    for cfg in (ghost, whole):
        execute(cfg)
    found, expected, other = (weights(cfg) for cfg in (two, ghost, whole))
    learned = [name for name in expected if "running" not in name and "tracked" not in name]
    torch.testing.assert_close([found[k] for k in learned], [expected[k] for k in learned], rtol=1e-7, atol=1e-9)
    assert max((found[k] - other[k]).abs().max() for k in learned) > 1e-3
    record = Store(two.results).read(run_id(two))
    assert (record.config["batch_statistics"], record.config["processes"]) == ("per_device", 2)
    assert (record.facts["batch_statistics"], record.facts["processes"]) == ("per_device", 2)
    assert run_id(one) == run_id(two) != run_id(whole)


def test_per_device_running_statistics_are_means_over_the_processes(pair, ended, tmp_path):
    """After one update by hand: 0.9 of what was there and 0.1 of the two parts' means and unbiased variances."""
    settings = {"norm": "bn", "model.widths": [5], "budget": "1steps", "evaluate": "1steps"}
    [_, two] = pair(**settings, batch_statistics="per_device", processes=2)
    assert ended(each, [two]) == ([0, 0], [])
    [cfg, _] = pair(**settings)
    training = run.Training(cfg, facts(cfg), tmp_path, run.silent)
    [layer] = [module for module in training.model.modules() if isinstance(module, torch.nn.BatchNorm1d)]
    seen = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach()))
    training.forward(training.model)()
    parts, found = seen[0].chunk(2), weights(two)
    [mean], [variance] = ([v for k, v in found.items() if k.endswith(name)] for name in ("running_mean", "running_var"))
    torch.testing.assert_close(mean, 0.1 * sum(part.mean(0) for part in parts) / 2)
    torch.testing.assert_close(variance, 0.9 + 0.1 * sum(part.var(0) for part in parts) / 2)


def test_one_process_has_the_id_it_always_had(composer):
    old = composer.id({"norm": "bn"})
    assert {"batch_statistics", "processes"}.isdisjoint(facts(composer.config({"norm": "bn"})))
    for settings in ({"batch_statistics": "per_device"}, {"processes": 4}, {"processes": 1}):
        assert composer.id({"norm": "bn", **settings}) == old
    apart = [composer.id({"norm": "bn", "batch_statistics": "per_device", "processes": n}) for n in (2, 3)]
    assert len({old, *apart}) == 3


# ends


def command(*words):
    """`normtables run ...`, as a process of torchrun's."""
    sys.argv = ["normtables", "run", *words]
    main()


def words(settings, results):
    return [f"{key}={value}".replace("'", "") for key, value in (RUN | settings | {"results": results}).items()]


LONG = {"budget": "11steps", "evaluate": "3steps"}


def failing(where, act, at, *words):
    """The command where in some of the processes something happens instead of the loss number `at`."""
    calls = []

    def broken(original):
        def loss(self, model, batch):
            calls.append(1)
            return act() if len(calls) == at and int(os.environ["RANK"]) in where else original(self, model, batch)

        return loss

    for task in (Classify, Language):
        task.loss = broken(task.loss)
    command(*words)


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


def fail():
    raise RuntimeError("out of cheese")


def complain():
    raise UserError("out of cheese")


@pytest.mark.parametrize(("victim", "settings"), [(0, CNN | {"norm": "bn"}), (1, LSTM | {"norm": "bn_recurrent"})])
def test_a_killed_process_ends_the_run_which_goes_on(pair, ended, victim, settings):
    """From the first one's checkpoint to the last bit of an undisturbed run of two; the other says so in a line."""
    [whole, torn] = pair(**settings, **LONG)
    assert ended(each, [whole]) == ([0, 0], [])
    codes, [line] = ended(failing, (victim,), kill, 8, *words(settings | LONG, torn.results))
    assert codes == [-signal.SIGKILL if rank == victim else 2 for rank in (0, 1)]
    assert line == "normtables: a process of this run was killed; the same command goes on from the last checkpoint"
    assert Store(torn.results).state(run_id(torn)) == "interrupted"
    assert len(rows(torn)) == 2
    assert ended(command, *words(settings | LONG, torn.results)) == ([0, 0], [])
    assert rows(torn) == rows(whole)
    torch.testing.assert_close(weights(torn), weights(whole), rtol=0, atol=0)


def stopped(cfg):
    """A run until its second row."""

    def stop(name, step, *_):
        if step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(cfg, stop)


def test_one_process_and_two_go_on_with_what_the_other_left(pair, ended):
    """A checkpoint says nothing of the processes: carried states are those of all streams."""
    [whole, torn] = pair(**LSTM, norm="bn_recurrent", **LONG)
    execute(whole)
    stopped(torn)
    ended(failing, (1,), kill, 5, *words(LSTM | LONG | {"norm": "bn_recurrent"}, torn.results))
    assert [row["step"] for row in rows(torn)] == [3, 6]
    record = execute(torn)
    assert record.status == "finished"
    assert rows(torn) == [pytest.approx(row, rel=1e-6) for row in rows(whole)]
    torch.testing.assert_close(weights(torn), weights(whole), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("where", [(0,), (1,), (0, 1)])
def test_an_unexpected_error_is_told_and_recorded_once(pair, ended, where):
    [_, cfg] = pair(**CNN, norm="bn")
    codes, lines = ended(failing, where, fail, 3, *words(CNN | {"norm": "bn"}, cfg.results))
    assert codes == [1, 1]
    [line] = lines
    store = Store(cfg.results)
    record = store.read(run_id(cfg))
    assert (record.status, record.reason.removeprefix("process 1: ")) == ("failed", "RuntimeError: out of cheese")
    assert record.reason.startswith("process 1") or 0 in where
    assert line.startswith(f"normtables: run {record.id} failed: {record.reason}; see ")
    assert "in fail" in (store.folder(record.id) / "log.txt").read_text()
    assert ended(each, [cfg]) == ([0, 0], [])
    assert store.read(record.id).status == "finished"


def test_a_mistake_that_one_process_meets_leaves_nothing(pair, ended):
    [_, cfg] = pair(**CNN, norm="bn")
    codes, lines = ended(failing, (1,), complain, 3, *words(CNN | {"norm": "bn"}, cfg.results))
    assert (codes, lines) == ([2, 2], ["normtables: out of cheese"])
    assert Store(cfg.results).read(run_id(cfg)) is None


def test_two_processes_diverge_together(pair, ended):
    [one, two] = pair(norm="none", **{"optim.lr": 1e300, "runtime.keep_weights": False})
    assert ended(each, [two]) == ([0, 0], [])
    assert execute(one).status == Store(two.results).read(run_id(two)).status == "diverged"


REFUSED = {
    "batch_size=25": "batch_size=25: 2 processes share a batch, take a multiple of that",
    "processes=3": "processes=3, but 2 make this run: start it with torchrun --nproc-per-node=3 -m normtables run",
    "norm=bn norm.ghost=6": "norm.ghost=6: parts of a batch are not synchronised, take batch_statistics=per_device",
    "norm=bn batch_statistics=per_device dataset.task.gap=2": "dataset.task.gap=2 looks at whole batches: take",
    "norm=bn batch_statistics=per_device batch_size=2": "a training batch of shape [1, 100] has one value per channel",
    "model=svm norm=none budget=0steps": "a model that is fitted at once is made by one process",
    "dataset=corridor model=mlp norm=none": "dataset.task=dqn is made by one process: start this run without torchrun",
    "dataset=embedded_domains model=cnn4": "dataset.task=adapt is made by one process: start this run without torchrun",
    "batch_statistics=perdevice": "did you mean 'per_device'?",
    "norm=bnn": "no norm 'bnn'",
    "runtime.device=cuda:7": "runtime.device=cuda:7:",
    "-m norm=bn,ln": "torchrun's processes make one run together: normtables run SETTINGS, without -m",
}


def refusals(lines, results, ports):
    """Commands one after the other, each a life of its own: its line, what it tells, its exit code."""
    for line, port in zip(lines, ports):
        print(f"> {line}", file=sys.stderr, flush=True)
        os.environ["MASTER_PORT"] = str(port)
        processes._met = False
        with pytest.raises(SystemExit) as error:
            command(*line.split(), f"results={results}")
        print(error.value.code, file=sys.stderr, flush=True)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def test_mistakes_are_one_line(ended, results, ports):
    codes, lines = ended(refusals, list(REFUSED), str(results), ports(len(REFUSED)))
    assert codes == [0, 0]
    told = {name: [] for name in REFUSED}
    for line in lines:
        if line.startswith("> "):
            name = line[2:]
        else:
            told[name].append(line)
    for name, text in REFUSED.items():
        assert sorted(told[name])[:2] == ["2", "2"], name
        [line] = sorted(told[name])[2:]
        assert line.startswith("normtables: ")
        assert text in line
    assert not [file for name in ("record.json", "claim") for file in results.glob(f"runs/*/{name}")]


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK"])
def test_half_of_what_torchrun_says(monkeypatch, name):
    for key in {"RANK", "LOCAL_RANK"} - {name}:
        monkeypatch.setenv(key, "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=f"{name}='' in the environment: start .* with torchrun"):
        processes.rank(), processes.local_rank()


def test_processes_that_one_run_needs_are_told(small):
    with pytest.raises(UserError, match="processes=2, but 1 make this run: start it with torchrun --nproc-per-node=2"):
        execute(small(processes=2))


def test_parts_of_a_batch():
    world = World(1, 3)
    assert [World(rank, 3).part(9) for rank in range(3)] == [slice(0, 3), slice(3, 6), slice(6, 9)]
    with world.alone():
        assert (world.part(9), world.leads, world.first(lambda: 7)) == (slice(0, 9), True, 7)
    assert (world.rank, world.size, world.leads) == (1, 3, False)
    x = torch.ones(2)
    assert ALONE.mean(x) is x
    assert ALONE.whole(x, 0) is x


def torchrun(options, arguments):
    """A command of torchrun and the environment that it wants."""
    environment = {k: v for k, v in os.environ.items() if k not in ("RANK", "LOCAL_RANK", "WORLD_SIZE")}
    return [sys.executable, "-m", "torch.distributed.run", *options, "-m", "normtables", *arguments], environment


def test_torchrun_itself(pair):
    """The door as a user takes it; the first process alone shows the run."""
    [one, two] = pair(norm="bn", **{"model.widths": [6]})
    execute(one)
    arguments = ["run", *words({"norm": "bn", "model.widths": [6]}, two.results)]
    command, environment = torchrun(["--standalone", "--nproc-per-node=2"], arguments)
    told = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    assert told.count("[1/1]") == told.count("finished") == 1
    same(one, two)


def test_a_torchrun_on_each_of_two_nodes(pair):
    """As on a cluster, each node with a process of its own; here both are this machine."""
    [one, two] = pair(norm="bn", **{"model.widths": [6]})
    execute(one)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    arguments = ["run", *words({"norm": "bn", "model.widths": [6]}, two.results)]
    meeting = ["--rdzv-backend=c10d", f"--rdzv-endpoint=127.0.0.1:{port}", "--rdzv-id=tests"]
    command, environment = torchrun(["--nnodes=2", "--nproc-per-node=1", *meeting], arguments)
    nodes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    told = "".join(node.communicate()[0] for node in nodes)
    assert [node.returncode for node in nodes] == [0, 0]
    assert told.count("[1/1]") == told.count("finished") == 1
    same(one, two)


def test_on_cuda_torchs_layers_become_its_own_of_several_processes():
    """These compute on CUDA only; what can be seen here is that they hold the same state, and evaluate alike."""
    network = nn.Sequential(nn.Conv2d(1, 2, 3), BatchNorm2d(2), nn.Flatten(), nn.Linear(18, 3), BatchNorm1d(3))
    images = torch.rand(4, 1, 5, 5)
    network(images)
    before, state = network.eval()(images), network.state_dict(keep_vars=True)
    synchronise(network, World(0, 2), torch.device("cuda"))
    assert [type(layer) for layer in network if isinstance(layer, _BatchNorm)] == [nn.SyncBatchNorm] * 2
    after = network.state_dict(keep_vars=True)
    assert list(after) == list(state)
    assert all(after[name] is value for name, value in state.items())
    assert torch.equal(network(images), before)

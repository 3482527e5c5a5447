"""Results to show: parts of the committed ones, and what a test adds to them."""

import shutil

import pytest
from dashboard_made import PARTS, TABLES, lines_of, number_of, served, write_history

from normtables.places import RESULTS
from normtables.records import Record, Store
from normtables.report import manifest
from normtables.report.manifest import Wanted
from normtables.report.site import Site


@pytest.fixture(scope="session")
def shown(tmp_path_factory):
    """Four committed tables with their runs; read only."""
    folder = tmp_path_factory.mktemp("shown") / "results"
    for part in PARTS:
        shutil.copytree(RESULTS / part, folder / part)
        for run in {run for line in lines_of(RESULTS / part / "table.csv") for run in line["run_ids"].split()}:
            if (RESULTS / "runs" / run).exists():
                shutil.copytree(RESULTS / "runs" / run, folder / "runs" / run, dirs_exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def site(shown):
    """What the page shows of them."""
    gathered = Site(shown, TABLES)
    gathered.look()
    return gathered


@pytest.fixture
def add(results):
    """Writes records, made up but for their form."""

    def write(run, status="finished", reason="", config=None, final=None, rows=(), **facts):
        settings = {"norm": {"name": "bn"}, "budget": {"epoch": 2}, "seeds": {"weights": run}} | (config or {})
        score = {"name": "test/error", "better": "lower", "chance": 90.0}
        store = Store(results)
        record = Record(number_of(run), status, reason, settings, score, final or {"test/error": float(run)}, facts)
        store.write(record)
        if rows:
            write_history(store, number_of(run), rows)
        return record

    return write


@pytest.fixture
def begin(results):
    """Begins runs, as `execute` does, and leaves them at some epoch; the claim names this process."""

    def start(run, epoch, claim):
        store, folder = Store(results), Store(results).folder(number_of(run))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(f"norm: {{name: bn}}\nbudget: {{epoch: 4}}\nseeds: {{weights: {run}}}\n")
        rows = [{"step": 10 * e, "epoch": e, "seconds": 2.0 * e, "test/error": 50 - e} for e in range(1, epoch + 1)]
        write_history(store, number_of(run), rows)
        return store.claim(number_of(run)) if claim else None

    return start


@pytest.fixture
def sweep(results):
    """A sweep of five runs: one done, one running, one failed, two waiting."""

    def announce(name="grid", runs=5, seconds=None, workers=2):
        wanted = {number_of(run): Wanted(f"norm=bn, seed={run}", seconds) for run in range(runs)}
        return manifest.Announced(results / "sweeps" / name, f"normtables run -m {name}", workers, wanted)

    return announce


@pytest.fixture
def fresh(results, monkeypatch):
    """A site of this test's own results, which looks at its files whenever it is asked."""
    monkeypatch.setattr("normtables.report.site.gather.PAUSE", 0.0)
    monkeypatch.setattr("normtables.report.site.gather.SHARE", 0)
    results.mkdir()
    return Site(results, TABLES)


@pytest.fixture(scope="session")
def browser():
    """A Chromium without a window; the tests that need it are skipped where there is none."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -c constraints.txt playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("no Chromium on the path: apt-get install chromium")
    with api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def browser_page(browser):
    """Makes pages and lists what they asked for; no page may report an error or ask for anything elsewhere."""
    said, asked, contexts = [], [], []

    def make(errors=True, **options):
        screen = {"viewport": {"width": 1280, "height": 800}, "reduced_motion": "reduce"}  # the drawer is there at once
        contexts.append(browser.new_context(**screen | options))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)
        page.on("request", lambda request: asked.append(request.url))
        if errors:
            page.on("pageerror", lambda error: said.append(str(error)))
            page.on("console", lambda line: said.append(line.text) if line.type in ("error", "warning") else None)
        return page, asked

    yield make
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("http://127.0.0.1:", "file://", "data:", "blob:"))] == []


@pytest.fixture(scope="session")
def address(site):
    """Where the committed tables are served."""
    with served(site) as url:
        yield url


@pytest.fixture
def opened(browser_page, address):
    """Opens a view of the committed tables."""

    def open_view(view, **options):
        page, _ = browser_page(**options)
        page.goto(f"{address}{view}")
        page.wait_for_selector("h1")
        return page

    return open_view

"""The page in a real browser: what every view shows is read out of it and compared with table.csv and the records."""

import csv
import io
import json
import re
import statistics
from urllib.parse import urlencode

import pytest
from dashboard_made import PARTS, lines_of, number_of, served

from normtables.__main__ import dispatch
from normtables.records import Store
from normtables.report.runs import leaves
from normtables.report.site import Site, export
from normtables.report.site.runs import Seen
from normtables.tables.spec import load

# The texts of a table's cells, the heads first.
READ = "table => [...table.querySelectorAll('tr')].map(row => [...row.children].map(cell => cell.innerText.trim()))"
DBN = "norm=dbn norm.alpha=0.1,0 dataset=digits status=finished"


def table(page, selector):
    """A table of the page: a dictionary for each line, by the heads."""
    heads, *lines = page.locator(f"{selector} table").evaluate(READ)
    return [dict(zip(heads, line)) for line in lines]


def drawn(page, chart):
    """The traces of a chart once it is there."""
    page.wait_for_selector(f"#{chart}[data-drawn]")
    keep = "({name, x, y, text, fill, showlegend}) => ({name, x: [...x], y: [...y], text, fill, showlegend})"
    return page.locator(f"#{chart}").evaluate(f"div => div.data.map({keep})")


def until(page, true):
    """Wait until an expression is true; the page's own policy forbids playwright to do so inside it."""
    for _ in range(2400):
        if page.evaluate(true):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never true: {true}")


def near(text, value):
    """Whether a printed number is that value to its last decimal."""
    return abs(float(text) - float(value)) <= 0.5000001 * 10.0 ** -len(text.partition(".")[2])


def first_number(text):
    found = re.match(r"-?[\d.]+", text)
    return found[0] if found else ""


@pytest.mark.parametrize("part", PARTS)
def test_the_overview_has_the_cells_and_verdicts_of_every_table(opened, shown, part):
    tier, label = part.split("/")
    page = opened("#/overview")
    [row] = [line for line in table(page, "#tables") if line["Table"].startswith(f"Table {int(label[-2:])}\n")]
    lines = [line for line in lines_of(shown / part / "table.csv") if line["reading"] != "validation-best"]
    planned = [line for line in lines if line["status"] not in ("quoted", "not planned")]
    run = sum(line["status"] in ("finished", "censored", "diverged") for line in planned)
    verdicts = [claim["verdict"] for claim in lines_of(shown / part / "claims.csv")]
    assert row[tier].startswith(f"{run} / {len(planned)} cells")
    told = {name: int(n) for n, name in re.findall(r"\S (\d+)\n([\w ]+)", row[tier])}
    assert told == {name: verdicts.count(name) for name in set(verdicts)}


def test_the_overview_counts_runs_and_misprints_without_plotly(opened, shown):
    page = opened("#/overview")
    statuses = [record.status for record in Store(shown).records()]
    counts = page.inner_text("#counts")
    assert counts.startswith(f"{len(statuses)} runs:")
    for status in set(statuses):
        assert re.search(rf"{status} {statuses.count(status)}\b", counts)
    [three] = [line for line in table(page, "#tables") if line["Table"].startswith("Table 3\n")]
    assert three["misprints"] == "1"
    assert [(e["row"], e["survey"], e["source"]) for e in table(page, "#errata") if e["table"] == "Table 3"] == [
        ("0.25", "7.32", "7.24")
    ]
    assert page.evaluate("typeof Plotly") == "undefined"


@pytest.mark.parametrize("part", PARTS)
def test_a_table_shows_every_number_of_table_csv(opened, shown, part):
    tier, label = part.split("/")
    page = opened(f"#/table/{int(label[-2:])}/{tier}")
    wanted = {}
    for line in lines_of(shown / part / "table.csv"):
        if any(line[key] for key in ("survey", "original", "run_ids")):
            wanted.setdefault(line["column"], []).append(line)
    names = page.locator(".column .scroll").evaluate_all("parts => parts.map(part => part.ariaLabel)")
    assert sorted(names) == sorted(wanted)
    for name in names:
        lines = page.locator(f'.column .scroll[aria-label="{name}"] table').evaluate(READ)
        for cells, line in zip(lines[1:], wanted[name], strict=True):
            beside = line["reading"] == "validation-best"
            assert cells[0] == ("validation-best" if beside else line["row"])
            shown_cells = dict(zip(lines[0][1:], cells[1:]))
            pairs = {"survey": "survey", "source": "original", "ours": "ours"}
            for head, key in pairs.items():
                if head in shown_cells and line[key]:
                    assert near(first_number(shown_cells[head]), line[key]), (name, line["row"], head)
            if line["ci_low"]:
                low, high = shown_cells["95 % interval"].split(" to ")
                assert near(low, line["ci_low"])
                assert near(high, line["ci_high"])
            known = line["original"] or line["survey"]
            if line["ours"] and known:
                assert near(shown_cells["difference"], float(line["ours"]) - float(known))


def test_claims_and_departures_are_those_of_the_files(opened, shown):
    page = opened("#/table/3/laptop")
    claims = lines_of(shown / "laptop" / "table_03" / "claims.csv")
    told = [
        (c["claim"], c["says"], c["verdict"].split(" ", 1)[1], c["evidence"], c["n"]) for c in table(page, "#claims")
    ]
    assert told == [(c["claim"], c["says"], c["verdict"], c["evidence"], c["n"]) for c in claims]
    texts = page.locator("main ul li").all_inner_texts()
    assert texts == [d.says for d in load(3).departures if not d.tiers or "laptop" in d.tiers]
    assert page.locator(".standin").first.inner_text().startswith("Stand-in for MNIST epochs")


def test_a_cell_opens_its_runs_their_curves_configuration_and_commands(opened, shown):
    page = opened("#/table/3/laptop")
    page.get_by_role("region", name="digits error %").get_by_role("link", name="0.1", exact=True).click()
    page.wait_for_selector("#cell")
    lines = lines_of(shown / "laptop" / "table_03" / "table.csv")
    [line] = [x for x in lines if (x["row"], x["column"], x["reading"]) == ("0.1", "digits error %", "best")]
    ids, store = line["run_ids"].split(), Store(shown)
    runs = table(page, "#cell-runs")
    assert [run["run"] for run in runs] == ids
    for run, told in zip(ids, runs):
        record = store.read(run)
        assert near(told["test/error"], record.final["test/error"])
        assert told["seeds.weights"] == str(record.config["seeds"]["weights"])
    [mean] = [trace for trace in drawn(page, "cell-curves") if trace["showlegend"] is not False]
    histories = [store.history(run) for run in ids]
    assert mean["x"] == [row["epoch"] for row in histories[0]]
    means = [statistics.fmean(row["test/error"] for row in rows) for rows in zip(*histories)]
    assert mean["y"] == pytest.approx(means)
    page.click("#cell-configuration summary")
    names = page.locator("#cell-configuration dt").all_inner_texts()
    told = dict(zip(names, page.locator("#cell-configuration dd").all_inner_texts()))
    settings = dict(leaves(store.read(ids[0]).config))
    assert told["norm.alpha"] == "0.1"
    assert {name for name, value in settings.items() if value is not None and not name.startswith("seeds")} <= set(told)
    page.click("#cell-commands summary")
    commands = page.locator("#cell-commands code").all_inner_texts()
    assert commands == [f"normtables run frozen={shown}/runs/{run}/config.yaml results=again" for run in ids]
    assert (
        page.locator("#cell > .command code").inner_text()
        == f"normtables table 3 --tier laptop --run --results {shown}"
    )


def matching(shown, **wanted):
    """The records with these settings."""
    found = []
    for record in Store(shown).records():
        settings = dict(leaves(record.config)) | {"status": record.status}
        if all(settings.get(name.replace("__", ".")) in values for name, values in wanted.items()):
            found.append(record)
    return found


@pytest.mark.parametrize(
    ("words", "test"),
    [
        ("norm=dbn", lambda s, r: s["norm.name"] == "dbn"),
        ("norm=dbn,none", lambda s, r: s["norm.name"] in ("dbn", "none")),
        ("norm!=dbn", lambda s, r: s["norm.name"] != "dbn"),
        ("norm.alpha<=0.1 status=finished", lambda s, r: _number(s, "norm.alpha") <= 0.1 and r.status == "finished"),
        ("lr>0.02 seeds.weights=1", lambda s, r: s["optim.lr"] > 0.02 and s["seeds.weights"] == 1),
        ("lr=0.010", lambda s, r: s["optim.lr"] == 0.01),
        ("acoustic", lambda s, r: any("acoustic" in str(value) for value in s.values())),
        ('model.widths="[100, 100]"', lambda s, r: s.get("model.widths") == "[100, 100]"),
        ("seconds>=2", lambda s, r: r.facts["seconds"] >= 2),
        ("test/error<2", lambda s, r: r.final.get("test/error", 100) < 2),
    ],
)
def test_filters_find_the_same_runs_as_the_records_do(opened, shown, words, test):
    page = opened("#/compare")
    page.fill("#where", words)
    records = list(Store(shown).records())
    found = [r for r in records if test({"norm.alpha": None, **dict(leaves(r.config))}, r)]
    assert page.inner_text("#matches") == f"{len(found)} of {len(records)} runs"


def _number(settings, name):
    return settings[name] if isinstance(settings[name], int | float) else float("inf")


def test_a_filter_of_ids_and_a_wrong_one(opened, shown):
    ids = Store(shown).ids()
    page = opened("#/compare")
    page.fill("#where", f"id={ids[0]},{ids[5][:8]}")
    assert [line["run"] for line in table(page, "#runs")] == [ids[0], ids[5]]
    page.fill("#where", "norn=bn")
    assert page.inner_text("#matches") == "no setting or score norn"


def test_curves_are_the_histories_in_every_way_of_drawing(opened, shown):
    page = opened(f"#/compare?{urlencode({'where': DBN})}")
    store = Store(shown)
    records = matching(shown, norm__name=("dbn",), norm__alpha=(0.1, 0), dataset__name=("digits",))
    ids = [record.id for record in records if record.status == "finished"]
    page.uncheck("#bands")
    traces = {trace["name"].split()[0]: trace for trace in drawn(page, "curves")}
    assert sorted(traces) == sorted(ids)
    for axis in ("epoch", "step", "seconds"):
        page.select_option("#x", axis)
        page.wait_for_selector("#curves[data-drawn]")
        for trace in drawn(page, "curves"):
            rows = store.history(trace["name"].split()[0])
            assert trace["x"] == pytest.approx([row[axis] for row in rows])
            assert trace["y"] == pytest.approx([row["test/error"] for row in rows])
    page.select_option("#y", "train/loss")
    rows = store.history(ids[0])
    [trace] = [trace for trace in drawn(page, "curves") if trace["name"].startswith(ids[0])]
    assert trace["y"] == pytest.approx([row["train/loss"] for row in rows])
    page.check("#logy")
    drawn(page, "curves")
    assert page.evaluate("document.getElementById('curves').layout.yaxis.type") == "log"


def test_bands_have_mean_and_sd_of_runs_that_differ_in_seeds_alone(opened, shown):
    page = opened(f"#/compare?{urlencode({'where': DBN})}")
    traces = drawn(page, "curves")
    groups = [trace for trace in traces if trace["showlegend"] is not False]
    assert sorted(re.search(r"norm\.alpha=(\S+)", trace["name"])[1] for trace in groups) == ["0", "0.1"]
    store = Store(shown)
    for k, group in enumerate(traces[2::3]):
        alpha = float(re.search(r"norm\.alpha=(\S+)", group["name"])[1])
        histories = [store.history(r.id) for r in matching(shown, norm__alpha=(alpha,), dataset__name=("digits",))]
        assert f"mean and sd of {len(histories)}" in group["name"]
        columns = [[row["test/error"] for row in rows] for rows in zip(*histories)]
        means, sds = map(statistics.fmean, columns), map(statistics.stdev, columns)
        low, high = traces[3 * k]["y"], traces[3 * k + 1]["y"]
        for found, mean, sd in zip(zip(low, group["y"], high), means, sds, strict=True):
            assert found == pytest.approx((mean - sd, mean, mean + sd))


def test_smoothing_is_a_moving_average_without_a_start_at_zero(opened, shown):
    [run, *_] = [r.id for r in matching(shown, norm__alpha=(0.1,), dataset__name=("digits",))]
    page = opened(f"#/compare?{urlencode({'runs': run, 'smooth': 0.5, 'y': 'test/error'})}")
    [trace] = drawn(page, "curves")
    total, weight, wanted = 0.0, 0.0, []
    for row in Store(shown).history(run):
        total, weight = 0.5 * total + 0.5 * row["test/error"], 0.5 * weight + 0.5
        wanted.append(total / weight)
    assert trace["y"] == pytest.approx(wanted)


def test_only_the_settings_that_differ_are_listed(opened, shown):
    records = matching(shown, norm__alpha=(0.1, 0), dataset__name=("digits",))[:4]
    page = opened(f"#/compare?{urlencode({'runs': ','.join(r.id for r in records)})}")
    flat = [dict(leaves(record.config)) for record in records]
    differ = {name for name in flat[0] if len({str(one.get(name)) for one in flat}) > 1}
    lines = table(page, "#differences")
    assert set(lines[0]) - {"run", "status"} - set(records[0].final) == differ
    for line, record, settings in zip(lines, records, flat, strict=True):
        assert line["run"] == record.id
        assert {name: line[name] for name in differ} == {name: str(settings[name]) for name in differ}
        assert all(near(line[name], value) for name, value in record.final.items() if name in line)


def test_a_scatter_has_a_point_for_each_run(opened, shown):
    records = matching(shown, norm__name=("dbn",), dataset__name=("digits",))
    page = opened(f"#/compare?{urlencode({'where': 'norm=dbn dataset=digits', 'setting': 'seeds.weights'})}")
    points = {
        run: (x, y)
        for trace in drawn(page, "scatter")
        for run, x, y in zip(trace["text"], trace["x"], trace["y"], strict=True)
    }
    assert points == {r.id: (r.config["seeds"]["weights"], pytest.approx(r.final["test/error"])) for r in records}


def test_runs_are_chosen_one_by_one_and_a_link_restores_the_view(opened, shown):
    ids = [r.id for r in matching(shown, norm__alpha=(0.1,), dataset__name=("digits",))]
    page = opened("#/compare")
    page.fill("#where", "norm.alpha=0.1 dataset=digits")
    page.click("#none")
    assert page.locator("#curves").count() == 0
    for run in ids[:2]:
        page.check(f"#choose-{run}")
    page.fill("#where", "")
    page.uncheck("#bands")
    page.select_option("#x", "step")
    page.check("#logx")
    page.locator("#smooth").fill("0.25")
    link = page.url
    other = opened(link[link.index("#") :])
    assert [trace["name"].split()[0] for trace in drawn(other, "curves")] == ids[:2]
    state = "[...document.querySelectorAll('.controls input, .controls select')].map(c => c.id + c.value + c.checked)"
    assert other.evaluate(state) == page.evaluate(state)
    assert other.evaluate("document.getElementById('curves').layout.xaxis.type") == "log"
    other.click("#all")
    assert "runs=" not in other.url


def test_the_list_is_paged_and_sorted(opened, shown):
    page = opened("#/compare?where=norm%3Ddbn")
    scores = sorted(r.final["test/error"] for r in matching(shown, norm__name=("dbn",)) if "test/error" in r.final)
    page.get_by_role("button", name="test/error").click()
    assert near(table(page, "#runs")[0]["test/error ↑"], scores[0])
    page.get_by_role("button", name="test/error").click()
    page.wait_for_selector("th[aria-sort=descending]")
    first = table(page, "#runs")
    assert near(first[0]["test/error ↓"], scores[-1])
    page.click("#next")
    second = table(page, "#runs")
    assert page.inner_text("#page").startswith("page 2 of ")
    assert not {line["run"] for line in first} & {line["run"] for line in second}


def test_runs_and_curves_are_saved_as_csv_and_svg(opened, shown):
    records = matching(shown, norm__alpha=(0.1,), dataset__name=("digits",))
    page = opened(f"#/compare?{urlencode({'runs': ','.join(r.id for r in records)})}")
    drawn(page, "curves")

    def saved(button):
        with page.expect_download() as found:
            page.click(button)
        return found.value.path().read_text(encoding="utf-8")

    rows = list(csv.DictReader(io.StringIO(saved("#runs-csv"))))
    assert [row["id"] for row in rows] == [r.id for r in records]
    assert [float(row["test/error"]) for row in rows] == pytest.approx([r.final["test/error"] for r in records])
    assert {row["norm.alpha"] for row in rows} == {"0.1"}
    rows = list(csv.DictReader(io.StringIO(saved("#curves-csv"))))
    history = Store(shown).history(records[0].id)
    mine = [float(row["test/error"]) for row in rows if row["id"] == records[0].id]
    assert mine == pytest.approx([row["test/error"] for row in history])
    assert saved("#curves-svg").startswith("<svg")


def test_the_page_on_disk_shows_the_same_and_asks_for_nothing_else(browser_page, site, shown, tmp_path):
    folder = export(site, tmp_path / "site").parent
    page, asked = browser_page()
    page.goto(f"{folder.as_uri()}/index.html#/table/3/laptop?row=0.1&column=digits+error+%25")
    [mean] = [trace for trace in drawn(page, "cell-curves") if trace["showlegend"] is not False]
    assert len(mean["y"]) == 30
    page.goto(f"{folder.as_uri()}/index.html#/overview")
    assert len(table(page, "#tables")) == 4
    assert asked
    assert all(url.startswith(folder.as_uri()) for url in asked)


def test_a_page_without_its_data_says_so(browser_page, site, tmp_path):
    folder = export(site, tmp_path / "site").parent
    (folder / "data.js").unlink()
    page, _ = browser_page(errors=False)
    page.goto(f"{folder.as_uri()}/index.html")
    until(page, "document.getElementById('live').textContent.includes('data.js is missing')")


def test_it_is_refreshed_without_reloading(browser_page, fresh, add, begin, sweep):
    announced = sweep()
    for run in range(3):
        add(run, rows=[{"step": s, "epoch": s, "seconds": s, "test/error": 9.0 - s} for s in range(1, 6)])
    with served(fresh) as url:
        page, _ = browser_page()
        page.goto(f"{url}#/compare")
        page.fill("#where", "norm=bn status=finished")
        page.evaluate("window.mine = 'the same page'; document.getElementById('where').setSelectionRange(2, 4)")
        drawn(page, "curves")
        page.evaluate("window.scrollTo(0, 150)")
        add(3, rows=[{"step": s, "epoch": s, "seconds": s, "test/error": 8.0} for s in range(1, 6)])
        until(page, "document.getElementById('matches').textContent === '4 of 4 runs'")
        assert len(drawn(page, "curves")) == 3  # still one band
        state = "[window.mine, document.activeElement.id, scrollY, document.activeElement.selectionStart]"
        assert page.evaluate(state) == ["the same page", "where", 150, 2]
        page.click("text=Sweeps")
        assert "4 of 5 runs done" in page.inner_text("#sweep-grid summary")
        with begin(4, epoch=1, claim=True):
            page.wait_for_selector("#running-sweep-grid")
            assert table(page, "#running-sweep-grid")[0]["progress"] == "25 %"
            begin(4, epoch=3, claim=False)
            until(page, "document.querySelector('#running-sweep-grid tbody').innerText.includes('75 %')")
        announced.fail(number_of(4), "its process died")
        page.wait_for_selector("#failed-sweep-grid")
        assert table(page, "#failed-sweep-grid") == [
            {"run": number_of(4), "what": "norm=bn, seed=4", "reason": "its process died"}
        ]
        assert page.evaluate("window.mine") == "the same page"


def test_two_sweeps_of_one_file_stand_one_below_the_other(browser_page, fresh, results, tmp_path):
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "mine.yaml").write_text("over: {norm: [bn, none]}")
    words = ["budget=2steps", "model.widths=[4]", f"results={results}", "--conf-dir", str(tmp_path)]
    for seeds in ("3", "4,5"):
        dispatch(["run", "-m", "+sweep=mine", f"seed={seeds}", *words])
    with served(fresh) as url:
        page, _ = browser_page()
        page.goto(f"{url}#/sweep")
        page.wait_for_selector("details.sweep")
        newest, oldest = page.locator("details.sweep").all()
        heads = [re.split(r"[ _]", part.locator("summary").first.inner_text(), maxsplit=2) for part in (newest, oldest)]
        assert [(name, rest) for name, _, rest in heads] == [
            ("mine", "complete, 4 of 4 runs done"),
            ("mine", "complete, 2 of 2 runs done"),
        ]
        assert len({digest for _, digest, _ in heads}) == 2
        oldest.locator("summary").first.click()
        assert ["seed=4,5" in newest.inner_text(), "seed=3" in oldest.inner_text()] == [True, True]


def test_the_curve_of_a_running_run_grows(browser_page, fresh, begin):
    with begin(1, epoch=2, claim=True), served(fresh) as url:
        page, _ = browser_page()
        page.goto(f"{url}#/compare?runs={number_of(1)}&y=test/error")
        assert drawn(page, "curves")[0]["y"] == [49, 48]
        begin(1, epoch=3, claim=False)
        until(page, "document.getElementById('curves').data[0].y.length === 3")


def test_hostile_text_in_every_field_is_shown_as_text(browser_page, fresh, add, sweep, results):
    evil = (
        "<b><a href='https://x.example'>x</a></b><img src=x onerror=\"document.title='owned'\"></script><script>owned"
    )
    config = {evil: evil, "norm": {"name": evil}, "__proto__": {"polluted": evil}, "budget": {evil: 1}}
    final = {f"{evil}/x": 1.0, "test/error": evil, "__proto__": 2.0}
    facts = {"device": evil, "seconds": evil, "commit": evil, "parameters": 1}
    record = add(1, evil, evil, config, final, **facts)
    path = results / "runs" / record.id / "record.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps(known | {"score": {"name": f"{evil}/x", "better": evil}}))
    add(2, rows=[{"step": 1, "epoch": 1, "seconds": 1, f'"{evil.replace(chr(34), chr(34) * 2)}/x"': 0.5}])
    add(3, config={"norm": {"name": evil + "2"}}, rows=[{"step": 1, "test/error": 1.0}])
    announced = sweep(name="x'\"><b>", runs=4)
    announced.fail(number_of(0), evil)
    with served(fresh) as url:
        page, _ = browser_page()
        for view in ("overview", "table/3/laptop", "sweep", "compare?runs=" + ",".join(map(number_of, (1, 2, 3)))):
            page.goto(f"{url}#/{view}")
            page.wait_for_selector("h1")
            assert page.locator("main img, main script, main b:has(img)").count() == 0
        assert evil in page.inner_text("#differences")
        drawn(page, "curves")
        drawn(page, "scatter")
        assert "<b><a href" in page.locator("#scatter .legend").evaluate("legend => legend.textContent")
        assert page.locator(".chart a[href*=example]").count() == 0
        page.fill("#where", "onerror")
        assert page.inner_text("#matches") == "2 of 3 runs"
        page.goto(f"{url}#/overview")
        assert evil in page.inner_text("#counts")
        page.goto(f"{url}#/sweep")
        assert evil in page.inner_text("main")
        assert page.title() == "Sweeps · normtables"
        assert page.evaluate("({}).polluted") is None
        assert page.locator("img").count() == 0


VIEWS = ("overview", "table/3/paper", "table/3/laptop?row=0.1&column=digits+error+%25", "sweep")


@pytest.mark.parametrize("width", [390, 1280])
def test_no_view_is_wider_than_the_screen(opened, width):
    page = opened("#/overview", viewport={"width": width, "height": 800})
    for view in (*VIEWS, f"compare?{urlencode({'where': 'norm=dbn dataset=digits'})}"):
        page.evaluate("view => { location.hash = view }", f"#/{view}")
        until(page, "document.querySelector('h1')")
        outside = "[...document.querySelectorAll('button, select, input')].filter(c => {"
        outside += " const box = c.getBoundingClientRect(); return box.width && !c.closest('.scroll, .chart')"
        outside += " && (box.left < 0 || box.right > innerWidth + 1) }).map(c => c.id || c.textContent)"
        until(page, f"document.documentElement.scrollWidth <= innerWidth && {outside}.length === 0")  # once it is drawn


# Contrast of an element's text against what is behind it, by WCAG 2.
CONTRAST = """element => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const light = text => {
    const linear = v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = parts(text).slice(0, 3).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  const clear = node => (parts(getComputedStyle(node).backgroundColor)[3] ?? 1) === 0;
  while (behind.parentElement && clear(behind)) behind = behind.parentElement;
  const [a, b] = [light(getComputedStyle(element).color), light(getComputedStyle(behind).backgroundColor)];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(opened, scheme):
    page = opened("#/overview", color_scheme=scheme)
    for selector in ("h1", ".lead", ".v0", ".v1", ".v2", "#tables a", ".s-finished", "#errata td", "nav a"):
        assert page.locator(selector).first.evaluate(CONTRAST) >= 4.5, (scheme, selector)


def test_the_theme_can_be_chosen_and_is_kept(opened):
    page = opened("#/overview", color_scheme="light")
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.click("#theme")
    page.click("#theme")
    assert page.get_attribute("#theme", "title") == "Theme: dark"
    dark = page.evaluate(colour)
    assert dark != light
    page.reload()
    page.wait_for_selector("h1")
    assert page.evaluate(colour) == dark


def test_the_keyboard_reaches_everything(opened):
    page = opened("#/table/3/laptop")
    focus = "document.activeElement.id || document.activeElement.textContent"
    page.keyboard.press("Tab")
    assert page.evaluate(focus) == "skip"
    page.keyboard.press("Enter")
    assert page.evaluate(focus) == "main"
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate(focus) == "0.75":
            break
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_selector("#cell")
    assert page.evaluate(focus) == "cell"
    page.keyboard.press("Escape")
    page.wait_for_selector("#cell", state="detached")


def test_every_control_has_a_name_and_every_table_heads(opened):
    page = opened(f"#/compare?{urlencode({'where': 'norm=dbn dataset=digits'})}")
    nameless = "[...document.querySelectorAll('button, input, select')].filter(c => !c.closest('.chart') &&"
    nameless += " !(c.ariaLabel || c.textContent.trim() || c.labels?.[0]?.textContent.trim())).map(c => c.outerHTML)"
    assert page.evaluate(nameless) == []
    assert page.evaluate("[...document.querySelectorAll('thead')].every(head => head.querySelector('th'))")
    assert page.get_attribute("#runs", "aria-label") == "Runs"


def test_ten_thousand_runs_are_counted_right(browser_page, tmp_path):
    """What they are made of: ten alphas, a thousand seeds."""
    many = Site(tmp_path, [])
    for run in range(10_000):
        settings = {"norm.alpha": run % 10 / 10, "norm.name": "dbn", "seeds.weights": run // 10}
        status = "diverged" if run % 100 == 99 else "finished"
        many.runs.seen[number_of(run)] = Seen((), status, "", settings, {"test/error": run / 7}, {}, "test/error")
    many.runs.look = lambda: False
    with served(many) as url:
        page, _ = browser_page()
        page.goto(f"{url}#/overview")
        assert re.fullmatch(r"10,000 runs: \S finished 9,900\s+\S diverged 100\s*", page.inner_text("#counts"))
        page.goto(f"{url}#/compare")
        for words, wanted in {
            "norm.alpha=0.3": "1,000",
            "norm.alpha=0.1,0.2 seeds.weights<100": "200",
            "dbn": "10,000",
            "seeds.weights>=999 status=diverged": "1",
            "test/error<1": "7",
        }.items():
            page.fill("#where", words)
            assert page.inner_text("#matches") == f"{wanted} of 10,000 runs"
        page.fill("#where", "norm.alpha!=0.3")
        assert page.inner_text("#page") == "page 1 of 450"

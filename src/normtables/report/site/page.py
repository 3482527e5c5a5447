"""The page itself: index.html made of a template, the style and the scripts, and plotly.js beside it."""

import base64
import functools
import hashlib
import importlib.util
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from normtables.errors import UserError
from normtables.report import put
from normtables.report.site.gather import Site

FOLDER = Path(__file__).with_name("page")
STYLES = ("style", "views")
SCRIPTS = ("base", "data", "filter", "charts", "parts", "overview", "table", "choose", "compare", "sweep", "main")
# Nothing but scripts that lie beside the page (from disk: file) and the one inside it; plotly.js sets styles itself.
POLICY = (
    "default-src 'none'; script-src 'self' file: 'sha256-{digest}'; style-src 'unsafe-inline'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'"
)


@functools.cache
def index_html() -> str:
    """index.html with style and scripts inside; it knows nothing of the results."""
    page = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined)
    script = "\n".join((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS)
    style = "\n".join((FOLDER / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
    script = f'"use strict";\n(() => {{\n{script}}})();\n'
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return page.get_template("index.html.j2").render(script=script, style=style, policy=POLICY.format(digest=digest))


def plotly_js() -> bytes:
    """plotly.min.js as the plotly wheel ships it; raises UserError where plotly is not installed."""
    found = importlib.util.find_spec("plotly")
    if found is None or found.origin is None:
        raise UserError("the dashboard's charts need plotly: python -m pip install -c constraints.txt plotly")
    return Path(found.origin).with_name("package_data").joinpath("plotly.min.js").read_bytes()


def export(site: Site, folder: Path) -> Path:
    """Write the page with all its data into a folder, to be opened from disk; the path of its index.html."""
    put(folder, {"data.js": site.data_js(), "version.js": site.version_js(), "plotly.min.js": plotly_js()})
    put(folder / "histories", {f"{prefix}.js": site.histories_js(prefix) for prefix in site.prefixes()})
    [path] = put(folder, {"index.html": index_html()})
    return path

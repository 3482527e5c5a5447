"""The dashboard: one page over the files of results, written to disk or served on this machine."""

from normtables.report.site.gather import Site
from normtables.report.site.page import export
from normtables.report.site.server import serve

__all__ = ["Site", "export", "serve"]

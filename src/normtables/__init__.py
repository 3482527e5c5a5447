"""normtables: reproduce the result tables of normalization papers, one trainer for all of them."""

__version__ = "0.1.0"

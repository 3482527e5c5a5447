"""Labels from a table file may hold any character; none may break the table around it."""

import re

import pytest

from normtables.report import text

NASTY = r"a|b & 50 % of $x_1^2$ {c} ~d #e \f <g> `h` *i* [j] σ² λ → ± – Ω é 王"


def test_markdown_cells_stay_cells():
    table = text.markdown_table(["", NASTY], [["row\nin two | lines", "x"]])
    lines = table.splitlines()
    assert len(lines) == 3
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)
    assert r"a\|b" in table
    assert r"\<g>" in table
    assert r"\`h\` \*i\* \[j\]" in table


def test_markdown_numbers_to_the_right():
    assert text.markdown_table(["a", "b", "c"], [], right=True).splitlines()[1] == "| --- | ---: | ---: |"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("50 %", r"50 \%"),
        ("a_b & c#d", r"a\_b \& c\#d"),
        ("1/j^2", r"1/j\textasciicircum{}2"),
        ("{x}", r"\{x\}"),
        ("A->W", r"A-$>$W"),
        ("A→W", r"A$\rightarrow$W"),
        ("0.1 ± 0.2", r"0.1 $\pm$ 0.2"),
        ("λ Λ σ ς ο Α", r"$\lambda$ $\Lambda$ $\sigma$ $\varsigma$ $o$ $A$"),
        (r"\input", r"\textbackslash{}input"),
        ("é", "é"),
        ("王", "[U+738B]"),
    ],
)
def test_latex_characters(given, expected):
    assert text.latex(given) == expected

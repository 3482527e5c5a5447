"""Plain text for markdown and LaTeX: nothing in a label may change the table around it."""

import unicodedata
from collections.abc import Sequence

MARKDOWN = {c: f"\\{c}" for c in "\\|*<`[]"}
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "↔": r"$\leftrightarrow$",
    "−": r"$-$",
    "×": r"$\times$",
    "–": "--",
    "—": "---",
    "…": r"\ldots{}",
    **{c: f"\\{c}" for c in "#$%&_"},
}
PLAIN_GREEK = {"omicron": "o", "final sigma": r"\varsigma"}  # letters without a command of their name


def markdown(text: str) -> str:
    """Text as it should appear in a cell of a markdown table."""
    return "".join(MARKDOWN.get(c, c) for c in " ".join(text.split()))


def latex(text: str) -> str:
    """Text as it should appear in LaTeX, whatever characters it has."""
    return "".join(letter(c) for c in " ".join(text.split()))


def letter(c: str) -> str:
    """One character in LaTeX: ASCII and Latin as they are, Greek as mathematics, others by their code."""
    if c in LATEX:
        return LATEX[c]
    name = unicodedata.name(c, "").lower()
    for case in ("small", "capital"):
        greek = name.removeprefix(f"greek {case} letter ")
        if greek != name and " with " not in greek:
            command = "lambda" if greek == "lamda" else greek
            return f"${PLAIN_GREEK.get(command) or greek_command(command, case)}$"
    return c if ord(c) < 0x180 else f"[U+{ord(c):04X}]"


def greek_command(name: str, case: str) -> str:
    """The command of a Greek letter; capitals that look Latin are Latin letters."""
    if case == "small":
        return f"\\{name}"
    own = {"gamma", "delta", "theta", "lambda", "xi", "pi", "sigma", "upsilon", "phi", "psi", "omega"}
    latin = {"eta": "H", "rho": "P", "chi": "X"}
    return f"\\{name.capitalize()}" if name in own else latin.get(name, name[0].upper())


def markdown_table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: bool = False) -> str:
    """A markdown table of plain texts, the first column to the left and the others to the `right` if asked."""
    rule = ["---", *(("---:" if right else "---") for _ in heads[1:])]
    lines = [[markdown(h) for h in heads], rule, *([markdown(c) for c in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)

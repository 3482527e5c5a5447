"""Molecules as numbers by RDKit: descriptors, and counts of circular substructures (extended-connectivity, ECFP)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normtables.errors import UserError

Doubles = NDArray[np.float64]
Counts = NDArray[np.uint32]  # [n, 3]: the molecule's row, the substructure's 32-bit identifier, how often it occurs

RADIUS = 5  # bonds around an atom: ECFP10, as DeepTox has it
LEFT_OUT = ("Ipc", "AvgIpc")  # powers of the number of atoms up to 1e300, and three quarters of the time of all


def features(smiles: Sequence[str]) -> tuple[Doubles, Counts]:
    """Descriptors [N, D] and substructure counts of each molecule; a row of NaN for a SMILES that RDKit cannot parse.

    A descriptor that is not defined for a molecule is not finite. Raises UserError where RDKit is not installed.
    """
    try:
        from rdkit import Chem, rdBase
        from rdkit.Chem import Descriptors, rdFingerprintGenerator
    except ImportError as error:
        raise UserError("features from SMILES need RDKit, the extra `chem`: pip install -e '.[chem]'") from error
    functions = [function for name, function in Descriptors.descList if name not in LEFT_OUT]
    circles = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS)
    numbers = np.full((len(smiles), len(functions)), np.nan)
    counts: list[Any] = []
    with rdBase.BlockLogs():  # what it cannot parse is told by the NaN
        for row, text in enumerate(smiles):
            if (molecule := Chem.MolFromSmiles(text)) is not None:
                numbers[row] = [function(molecule) for function in functions]
                found = circles.GetSparseCountFingerprint(molecule).GetNonzeroElements()
                counts += [(row, identifier, count) for identifier, count in found.items()]
    return numbers, np.array(counts, np.uint32).reshape(-1, 3)

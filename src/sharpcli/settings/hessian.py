"""Settings of `hessian`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from sharpcli.errors import SettingsError
from sharpcli.settings.base import SPLITS, TOLERANCE, AnalysisSettings, option, require_at_least, require_choice

ENDS = ("LA", "SA", "LM")
CERTIFY = ("ends", "all")
OPERATORS = ("hessian", "ggn", "fisher", "empirical-fisher", "preconditioned")
_HESSIANS = ("hessian", "preconditioned")  # They have every engine.
ENGINES = ("auto", "double-backward", "fused", "linearize", "forward-over-reverse", "difference")
BLOCKS = ("layer", "parameter", "projection", "head")
COMPILE = ("auto", "on", "off")
BN_POLICIES = ("eval", "batch", "recompute")
_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


@dataclass(frozen=True, kw_only=True)
class HessianSettings(AnalysisSettings):
    """Which eigenvalues to compute, of which matrix, and the limits on products, time and memory."""

    _splits = (*SPLITS, "both")
    topk: int = option(5, "Number of eigenvalues at the end of the spectrum that --which names; 0 for none.", "K")
    bottomk: int = option(
        0, "Number of smallest (most negative) eigenvalues to compute as well, from the same Krylov space.", "K"
    )
    which: str = option("LA", "LA (largest), SA (smallest) or LM (largest in magnitude).", "END")
    tol: float = option(
        TOLERANCE, "Relative tolerance: each eigenvalue is certified to this fraction of its value; at most 0.01.", "X"
    )
    max_hvp: int | None = option(
        None, "Maximum number of products for Lanczos. Default: 100 + 4 per eigenvalue; 200 more for --bottomk, SA or LM.", "N"
    )
    max_minutes: float | None = option(None, "Maximum number of minutes for each search.", "X")
    memory: str | None = option(
        None,
        "Memory for Lanczos vectors, then for stored graphs, such as 2GiB. A smaller value costs more products or more time. "
        "Default: 40 % of the free memory for vectors, 30 % for graphs.",
        "SIZE",
    )
    certify: str = option("ends", "Which residuals to compute again from a new product: ends (first and last) or all.", "WHICH")
    confirm: int = option(
        8,
        "Maximum number of products that test whether eigenvalues were missed, to confirm each index with probability 0.99.",
        "N",
    )
    operator: str = option(
        "hessian",
        "Matrix: hessian, ggn (Gauss-Newton), fisher, empirical-fisher or preconditioned (P^-1/2 H P^-1/2 with the second "
        "moments that Adam saved).",
        "NAME",
    )
    engine: str = option(
        "auto",
        "How products are computed: auto (the fastest), double-backward, fused, linearize (traced), "
        "forward-over-reverse (keeps no graph) or difference (of float64 gradients; no second derivatives).",
        "NAME",
    )
    compile: str = option(
        "auto",
        "on (torch.compile for linearize and forward-over-reverse, takes seconds to minutes), off or auto (off).",
        "WHEN",
    )
    params: tuple[str, ...] = option(
        (), "Only parameters whose names match this pattern, such as 'conv*.weight'. Repeat for several.", "GLOB"
    )
    bn: str = option(
        "eval",
        "BatchNorm statistics: eval (stored), recompute (over the analysed samples) or batch (over fixed random blocks).",
        "NAME",
    )
    bn_block: int = option(128, "Samples per block for --bn batch.", "N")
    split: str = option("train", "Split whose mean loss is analysed: train, test or both.", "NAME")
    trace: bool = option(False, "Also estimate trace, Frobenius norm and effective rank, with 95 % intervals.")
    trace_tol: float = option(0.02, "Relative half-width to reach for the 95 % interval of the trace.", "X")
    density: bool = option(False, "Also estimate the spectral density, by stochastic Lanczos quadrature.")
    probes: int = option(6, "Random vectors (probes) for the density.", "N")
    density_steps: int = option(40, "Lanczos steps per probe of the density.", "N")
    above: tuple[float, ...] = option(
        (), "Also estimate how many eigenvalues are above each threshold (implies --density).", "X[,X]"
    )
    ggn_split: bool = option(False, "Also split λmax into its Gauss-Newton part and the remainder.")
    per_layer: bool = option(
        False, "Also compute λmax and trace of the diagonal block of each layer; with --density also densities and distances."
    )
    blocks: str = option(
        "layer",
        "Blocks of --per-layer: layer, parameter (each tensor), projection (queries, keys and values of attention apart) or "
        "head (each attention head).",
        "NAME",
    )
    along_run: bool = option(
        False, "Analyse the initial weights and all saved steps of each run folder; each search starts near the one before."
    )
    vectors: str | None = option(None, "Write the eigenvectors to this safetensors file.", "FILE")
    state: str | None = option(None, "Save the search in this folder, and continue a search that is saved there.", "FOLDER")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_choice("which", self.which, ENDS)
        require_choice("certify", self.certify, CERTIFY)
        require_choice("operator", self.operator, OPERATORS)
        require_choice("engine", self.engine, ENGINES)
        require_choice("compile", self.compile, COMPILE)
        require_choice("bn", self.bn, BN_POLICIES)
        require_choice("blocks", self.blocks, BLOCKS)
        for name in ("topk", "bottomk", "confirm"):
            require_at_least(name, getattr(self, name), 0)
        for name in ("tol", "trace_tol", "max_minutes"):
            require_at_least(name.replace("_", "-"), getattr(self, name), 0, strictly=True)
        require_at_least("bn-block", self.bn_block, 2)
        require_at_least("probes", self.probes, 2)
        require_at_least("density-steps", self.density_steps, 2)
        self.memory_bytes()
        self._check_counts()
        self._check_engine()

    def _check_engine(self) -> None:
        traced = ("linearize", "forward-over-reverse")
        if self.operator not in _HESSIANS and (self.engine in traced or self.compile == "on"):
            raise SettingsError(
                f"--operator {self.operator} is computed by double backward or differences only.",
                "Use --engine auto, fused or difference, and no --compile.",
            )
        if self.compile == "on" and self.engine not in ("auto", *traced):
            raise SettingsError(
                "--compile on needs the engine linearize or forward-over-reverse; torch cannot compile double backward.",
                "Add --engine forward-over-reverse, or leave --compile out.",
            )

    def _check_counts(self) -> None:
        wanted = self.topk + self.bottomk
        if not wanted and not self.trace and not self.has_density():
            raise SettingsError("--topk 0 leaves nothing to compute.", "Add --trace, --density or at least --topk 1.")
        if not wanted and (self.per_layer or self.ggn_split or self.vectors or self.state):
            raise SettingsError(
                "--per-layer, --ggn-split, --vectors and --state need an eigenvector, but --topk is 0.", "Use --topk 1 or more."
            )
        if self.max_hvp is not None and self.max_hvp < max(wanted, 1):
            raise SettingsError(
                f"--max-hvp {self.max_hvp} is less than the number of eigenvalues, {wanted}.",
                f"Lanczos needs at least one product per eigenvalue; leave --max-hvp out, or try {4 * wanted + 100}.",
            )
        if self.bn == "batch" and self.chunk_size is not None:
            raise SettingsError(
                "With --bn batch a pass holds one block of --bn-block samples, but --chunk-size is given.",
                "Leave --chunk-size out.",
            )
        if self.ggn_split and self.operator != "hessian":
            raise SettingsError(
                f"--ggn-split needs --operator hessian, but it is {self.operator}.", "Leave --operator or --ggn-split out."
            )
        if not all(map(math.isfinite, self.above)):
            raise SettingsError("--above contains a number that is not finite.", "Give thresholds like --above 1,10.")
        if self.which == "SA" and self.bottomk:
            raise SettingsError(
                "--which SA and --bottomk both mean the smallest eigenvalues.",
                "Give their number with --topk, and leave --bottomk out.",
            )

    def matrix(self) -> dict[str, Any]:
        """Return the settings that select the matrix, apart from model and data."""
        return {"bn": self.bn, "bn_block": self.bn_block, "params": self.params}

    def has_density(self) -> bool:
        """Return whether the density is needed."""
        return self.density or bool(self.above)

    def expected_products(self) -> int:
        """Return the expected number of products."""
        return int(sum(self.parts()[part] for part in ("search", "trace", "density")))

    def parts(self) -> dict[str, float]:
        """Return the parts of the computation in their order, each with its expected number of products."""
        wanted = self.topk + self.bottomk
        return {
            "open": 1.0,
            "plan": 2.0,
            "search": 2.0 * self.topk + 20 * self.bottomk + 10 * bool(wanted),
            "verify": float(wanted if self.certify == "all" else min(wanted, 2)),
            "trace": 60.0 * self.trace,
            "density": float(self.has_density() * self.probes * self.density_steps),
            "layer": 60.0 * self.per_layer,
            "traces of layers": 20.0 * self.per_layer * (not self.has_density()),
            "density of blocks": float(self.per_layer * self.has_density() * self.probes * self.density_steps),
        }

    def most_products(self) -> int:
        """Return the maximum number of products of a search, without those that verify residuals."""
        both = self.bottomk > 0 or self.which != "LA"
        return 4 * (self.topk + self.bottomk) + 100 + 200 * both if self.max_hvp is None else self.max_hvp

    def most_seconds(self) -> float | None:
        """Return the maximum number of seconds for each search, or None if there is no limit."""
        return None if self.max_minutes is None else 60 * self.max_minutes

    def memory_bytes(self) -> int | None:
        """Return the memory for Lanczos vectors and then for stored graphs, in bytes, or None if it is not given.

        Raises:
            SettingsError: The text is not a size.
        """
        if self.memory is None:
            return None
        size = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)(?:i?b)?\s*", self.memory.lower())
        if not size or not 0 < float(size[1]) < 1e12:
            raise SettingsError(f"--memory '{self.memory}' is not a size.", "Write it like 500MiB or 2GiB.")
        return int(float(size[1]) * _UNITS[size[2]])

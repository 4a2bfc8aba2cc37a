"""Read OpenMetrics 1.0 text as strictly as the specification is written.

    lines ── grammar (regular expressions) ──▶ metadata and samples ── rules of the type ──▶ MetricFamily
                                                     └── a table: suffixes, who may be negative, who has exemplars

It is for tests: an exposition that passes here passes Prometheus. Names in quotes, of Prometheus 3, are read too.
Every fault raises ``OpenMetricsError`` with the number of its line, or of the last line of the family it is in.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from typing import NamedTuple, NoReturn

__all__ = ["MetricFamily", "OpenMetricsError", "ParsedExemplar", "Sample", "parse"]

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
QUOTED = r'"(?:[^"\\\n]|\\.)*"'
LABEL = rf"(?:([a-zA-Z_][a-zA-Z0-9_]*|{QUOTED})=)?({QUOTED})"
LABELS = rf"\{{((?:{LABEL}(?:,{LABEL})*)?)\}}"
REAL = r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?"
NUMBER = rf"{REAL}|[+-]?(?:[iI][nN][fF](?:[iI][nN][iI][tT][yY])?)|[nN][aA][nN]"
EXEMPLAR = rf" # (?P<exemplar>{LABELS}) (?P<size>{NUMBER})(?: (?P<when>{REAL}))?"
SAMPLE = re.compile(
    rf"(?P<name>{NAME})?(?P<labels>(?:{LABELS})?) (?P<value>{NUMBER})(?: (?P<time>{REAL}))?(?:{EXEMPLAR})?"
)
METADATA = re.compile(rf"# (?P<what>HELP|TYPE|UNIT) (?P<name>{NAME}|{QUOTED}) (?P<text>[^\n]*)")
ONE_LABEL = re.compile(LABEL)
LE = re.compile(rf"{REAL}|\+Inf")
EXEMPLAR_LIMIT = 128  # characters of all names and values together

SUFFIXES: dict[str, tuple[str, ...]] = {
    "counter": ("_total", "_created"),
    "gauge": ("",),
    "gaugehistogram": ("_bucket", "_gcount", "_gsum"),
    "histogram": ("_bucket", "_count", "_sum", "_created"),
    "info": ("_info",),
    "stateset": ("",),
    "summary": ("", "_count", "_sum", "_created"),
    "unknown": ("",),
}
COUNTS = {"_bucket", "_count", "_gcount"}
NEVER_NEGATIVE = COUNTS | {"_total", "_sum", "_created"}
WITH_EXEMPLARS = {("counter", "_total"), ("histogram", "_bucket"), ("gaugehistogram", "_bucket")}
OWN_LABEL = {("histogram", "_bucket"): "le", ("gaugehistogram", "_bucket"): "le", ("summary", ""): "quantile"}


class OpenMetricsError(ValueError):
    """The text is not OpenMetrics; ``line`` is the number of the line, from 1."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(f"line {line}: {message}")
        self.line: int = line


class ParsedExemplar(NamedTuple):
    """What stands behind the ``#`` of a sample."""

    labels: Mapping[str, str]
    value: float
    timestamp: float | None = None


class Sample(NamedTuple):
    """One line: the whole name, its labels, its value."""

    name: str
    labels: Mapping[str, str]
    value: float
    timestamp: float | None = None
    exemplar: ParsedExemplar | None = None


@dataclass
class MetricFamily:
    """The lines of one metric."""

    name: str
    type: str = "unknown"
    help: str = ""
    unit: str = ""
    samples: list[Sample] = field(default_factory=list[Sample])


def parse(text: str) -> list[MetricFamily]:
    """Return the families of an OpenMetrics exposition, or raise OpenMetricsError."""
    return _Parser().read(text)


class _Parser:
    line: int  # that is being read, from 1
    known: set[str]  # metadata that the current family has had

    def __init__(self) -> None:
        self.families: list[MetricFamily] = []
        self.claimed: set[str] = set()

    def read(self, text: str) -> list[MetricFamily]:
        lines = text.removesuffix("\n").split("\n")
        if lines[-1] != "# EOF":
            raise OpenMetricsError("the last line must be '# EOF'", len(lines))
        for self.line, line in enumerate(lines[:-1], 1):
            if line.startswith("#"):
                self.metadata(line)
            else:
                self.sample(line)
        self.close()
        return self.families

    def metadata(self, line: str) -> None:
        found = METADATA.fullmatch(line) or self.fail(f"neither HELP, TYPE, UNIT nor a sample: {line!r}")
        name, what, text = _unquoted(found["name"]), found["what"], found["text"]
        if not self.families or self.families[-1].name != name:
            self.open(name)
        family = self.families[-1]
        if what in self.known or family.samples:
            self.fail(f"{what} of {name!r} for the second time, or after its samples")
        self.known.add(what)
        if what == "TYPE" and text not in SUFFIXES:
            self.fail(f"no such type: {text!r}")
        setattr(family, what.lower(), _unescaped(text) if what == "HELP" else text)

    def sample(self, line: str) -> None:
        found = SAMPLE.fullmatch(line) or self.fail(f"not a sample: {line!r}")
        quoted, labels = self.labels(found["labels"])
        name = found["name"] or quoted
        if not name or (found["name"] and quoted):
            self.fail(f"a sample needs one name: {line!r}")
        exemplar = None
        if found["exemplar"]:
            stray, ids = self.labels(found["exemplar"])
            exemplar = ParsedExemplar(ids, float(found["size"]), _float(found["when"]))
            if stray:
                self.fail(f"an exemplar's label without a name: {stray!r}")
            if sum(len(label) + len(value) for label, value in exemplar.labels.items()) > EXEMPLAR_LIMIT:
                self.fail(f"exemplar labels of more than {EXEMPLAR_LIMIT} characters")
        family = self.families[-1] if self.families else None
        if family is None or name not in _names(family):
            family = self.open(name)
        sample = Sample(name, labels, float(found["value"]), _float(found["time"]), exemplar)
        self.check(sample, family)
        family.samples.append(sample)

    def labels(self, text: str) -> tuple[str, dict[str, str]]:
        """Return the name among the labels, as Prometheus 3 writes it, and the labels."""
        pairs = [(found[1], _unquoted(found[2])) for found in ONE_LABEL.finditer(text)]
        named = [(_unquoted(name), value) for name, value in pairs if name]
        labels = dict(named)
        if len(labels) < len(named) or any(name is None for name, _ in pairs[1:]):
            self.fail(f"a label twice, or without a name: {text}")
        return (pairs[0][1] if pairs and pairs[0][0] is None else ""), labels

    def check(self, sample: Sample, family: MetricFamily) -> None:
        """Apply the rules that one line must keep."""
        suffix, value = sample.name[len(family.name) :], sample.value
        if sample.exemplar and (family.type, suffix) not in WITH_EXEMPLARS:
            self.fail(f"{sample.name}: no exemplars here")
        if suffix in NEVER_NEGATIVE and not value >= 0:
            self.fail(f"{sample.name}: {value} is negative or no number")
        if suffix in COUNTS and value % 1:
            self.fail(f"{sample.name}: {value} is no count")
        if (family.type == "info" and value != 1) or (family.type == "stateset" and value not in (0, 1)):
            self.fail(f"{sample.name}: the value of {family.type} cannot be {value}")
        if family.type == "stateset" and family.name not in sample.labels:
            self.fail(f"{sample.name}: a stateset has a label of its own name")
        own = OWN_LABEL.get((family.type, suffix))
        if own and not LE.fullmatch(sample.labels.get(own, "")):
            self.fail(f"{sample.name}: the label {own!r} is missing or no number")
        if own == "quantile" and not (0 <= float(sample.labels[own]) <= 1 and not value < 0):
            self.fail(f"{sample.name}: a quantile is from 0 to 1, its value not negative")

    def open(self, name: str) -> MetricFamily:
        self.close()
        self.known = set()
        self.families.append(MetricFamily(name))
        return self.families[-1]

    def close(self) -> None:
        """Apply the rules that a whole family must keep."""
        if not self.families:
            return
        family = self.families[-1]
        names = {family.name, *_names(family)}
        if names & self.claimed:
            self.fail(f"{family.name!r} is there twice, or clashes with another")
        self.claimed |= names
        if family.unit and (not family.name.endswith(f"_{family.unit}") or family.type in ("info", "stateset")):
            self.fail(f"{family.name!r} cannot have the unit {family.unit!r}")
        groups = [(key, list(group)) for key, group in groupby(family.samples, lambda sample: _metric(sample, family))]
        if len({key for key, _ in groups}) < len(groups):
            self.fail(f"{family.name!r}: samples of one metric are apart")
        for _, group in groups:
            self.check_metric(group, family)

    def check_metric(self, samples: list[Sample], family: MetricFamily) -> None:
        """Apply the rules for all samples with the same labels."""
        points: dict[object, list[float | None]] = {}
        for sample in samples:
            points.setdefault((sample.name, frozenset(sample.labels.items())), []).append(sample.timestamp)
        for times in points.values():
            if any(not (early is not None and late is not None and early <= late) for early, late in pairwise(times)):
                self.fail(f"{family.name!r}: one sample twice, or going back in time")
        if family.type in ("histogram", "gaugehistogram"):
            for _, group in groupby(samples, lambda sample: sample.timestamp):
                self.check_histogram(list(group), family)

    def check_histogram(self, samples: list[Sample], family: MetricFamily) -> None:
        buckets = [(float(sample.labels["le"]), sample.value) for sample in samples if sample.name.endswith("_bucket")]
        others = {sample.name[len(family.name) :].replace("_g", "_"): sample.value for sample in samples}
        if not buckets or buckets[-1][0] != math.inf:
            self.fail(f"{family.name!r}: the last bucket must be +Inf")
        if any(low >= high or few > many for (low, few), (high, many) in pairwise(buckets)):
            self.fail(f"{family.name!r}: buckets must ascend, and so must their counts")
        if ("_sum" in others) != ("_count" in others) or others.get("_count", buckets[-1][1]) != buckets[-1][1]:
            self.fail(f"{family.name!r}: sum and count go together, and the count is that of the last bucket")
        total = others.get("_sum")
        if total is None:
            return
        negative = buckets[0][0] < 0
        if (family.type == "histogram" and negative) or math.isnan(total) or (total < 0 and not negative):
            self.fail(f"{family.name!r}: the sum {total} does not go with these buckets")

    def fail(self, message: str) -> NoReturn:
        raise OpenMetricsError(message, self.line)


def _names(family: MetricFamily) -> set[str]:
    return {family.name + suffix for suffix in SUFFIXES[family.type]}


def _metric(sample: Sample, family: MetricFamily) -> frozenset[tuple[str, str]]:
    """Return the labels that tell metrics of a family apart."""
    own = {"histogram": "le", "gaugehistogram": "le", "summary": "quantile", "stateset": family.name}.get(family.type)
    return frozenset((name, value) for name, value in sample.labels.items() if name != own)


def _float(text: str | None) -> float | None:
    return None if text is None else float(text)


def _unquoted(text: str) -> str:
    return _unescaped(text[1:-1]) if text.startswith('"') else text


def _unescaped(text: str) -> str:
    return re.sub(r'\\([\\n"])', lambda found: "\n" if found[1] == "n" else found[1], text)

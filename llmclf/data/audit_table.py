"""The audit as a table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from llmclf.data.table import listed, shown

if TYPE_CHECKING:
    from llmclf.data.audit import Audit

_SPLITS = ("train", "validation", "test")
_KINDS = ("exact", "normalised", "near")
_MAX_CLASSES = 12


def audit_table(audit: Audit) -> Table:
    """Rows, classes and repeats per split; what needs attention stands below."""
    table = Table(title="Data", title_justify="left", caption_justify="left", caption_style="")
    table.add_column("")
    for name in _SPLITS:
        table.add_column(name, justify="right")
    table.add_row("rows", *(f"{audit.rows[name]:,}" for name in _SPLITS), style="bold")
    _add_classes(table, audit)
    table.add_section()
    table.add_row("repeats: exact / normalised / near", *(_kinds(audit.within[n]) for n in _SPLITS))
    for earlier, laters in (("train", _SPLITS[1:]), ("validation", _SPLITS[2:])):
        overlaps = {n: audit.across[f"{earlier}/{n}"] for n in laters}
        counts = {n: {kind: of[kind]["rows"] for kind in _KINDS} for n, of in overlaps.items()}
        table.add_row(f"also in {earlier}", *(_kinds(counts.get(n)) for n in _SPLITS))
    if any(audit.dropped.values()):
        cells = [f"{audit.dropped[n]:,}" if audit.dropped[n] else "" for n in _SPLITS]
        table.add_row("dropped: in a later split, too", *cells)
    words = "[dim]normalised: the same but for case, spaces and punctuation; near: similar[/]"
    notes = [f"[{style}]{mark}[/] {escape(text)}" for mark, style, text in _notes(audit)]
    table.caption = "\n".join([words, *notes])
    return table


def _kinds(counts: dict[str, int] | None) -> str:
    """``5 / 23 / 117``, in the order of ``_KINDS``."""
    if counts is None:
        return ""
    text = " / ".join(f"{counts[kind]:,}" for kind in _KINDS)
    return text if any(counts.values()) else f"[dim]{text}[/]"


def _add_classes(table: Table, audit: Audit) -> None:
    order = sorted(audit.classes, key=lambda c: -audit.classes[c]["train"])
    for label in order[:_MAX_CLASSES]:
        cells = []
        for name in _SPLITS:
            count, rows = audit.classes[label][name], audit.rows[name]
            share = f" [dim]{count / rows:4.0%}[/]" if rows else ""
            cells.append(f"{count:,}{share}")
        table.add_row("  " + escape(label), *cells)
    if rest := order[_MAX_CLASSES:]:
        cells = []
        for name in _SPLITS:
            counts = [audit.classes[label][name] for label in rest]
            cells.append(f"{min(counts):,} to {max(counts):,} each")
        table.add_row(f"  [dim]{len(rest)} more classes[/]", *cells)


def _notes(audit: Audit) -> list[tuple[str, str, str]]:
    """Mark, style and text of each remark; the worst first."""
    notes = []
    for name, count in audit.leaked.items():
        if count:
            share = f"{count / audit.rows[name]:.1%}"
            seen = "train has" if name == "validation" else "train or validation has"
            text = f"{name} rows that {seen}, too: {count:,} ({share}); its scores are too high"
            notes.append(("LEAK", "bold red", text))
    return notes + [("!", "yellow", text) for text in _remarks(audit)]


def _remarks(audit: Audit) -> list[str]:
    remarks = [
        f"classes without a {name} row: {listed(labels)}"
        for name, labels in audit.absent.items()
        if labels and audit.rows[name]
    ]
    of_all = [c for c, of in audit.classes.items() if of["train"] == audit.rows["train"] > 0]
    if of_all:
        remarks.append(
            f"labels that every train row has, so they are given always: {listed(of_all)}"
        )
    remarks += [
        f"groups in both {pair.replace('/', ' and ')}: {count:,}"
        for pair, count in audit.shared_groups.items()
        if count
    ]
    if small := audit.small:
        classes = ", ".join(f"{shown(c)} {n}" for c, n in list(small.items())[:8])
        remarks.append(f"classes with few training rows: {len(small)} ({classes})")
    if (conflicts := audit.conflicts)["texts"]:
        rows = f"{conflicts['rows']:,} rows, such as {listed(conflicts['examples'][0])}"
        remarks.append(f"texts with more than one label: {conflicts['texts']:,} ({rows})")
    if (empty := audit.empty)["rows"]:
        remarks.append(f"rows without text, dropped: {empty['rows']:,} ({listed(empty['names'])})")
    if (odd := audit.odd_characters)["rows"]:
        ids = listed(odd["ids"])
        remarks.append(f"texts with invisible characters: {odd['rows']:,} (such as {ids})")
    return remarks

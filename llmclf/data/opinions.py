"""Human-rated sentences of Hutto & Gilbert, "VADER: A Parsimonious Rule-based Model for Sentiment
Analysis of Social Media Text" (ICWSM 2014): tweets, Amazon and film reviews, newspaper editorials.

Each sentence has the mean of its ratings, from -4 (most negative) to 4. The authors' tables call a
mean below -0.5 negative, above 0.5 positive, and what lies between neutral.
"""

from __future__ import annotations

import html
import tarfile
from pathlib import Path

import polars as pl

from llmclf.config import ConfigError, did_you_mean
from llmclf.data.table import SourceTable, from_frame

FILES = {
    "tweets": "tweets",
    "amazon": "amazonReviewSnippets",
    "film": "movieReviewSnippets",
    "nyt": "nytEditorialSnippets",
}
THRESHOLD = 0.5


def read_opinions(archive: Path, domain: str | None = None) -> SourceTable:
    """Rated sentences of one domain or of all four: id, text, label, domain, rating, spread, group.

    ``spread`` is the standard deviation of the ratings (15 to 99 raters, mostly 20). ``group``
    names the review or article that a sentence was cut from, as far as the archive tells: amazon
    and nyt ids are article_sentence, tweets and film sentences stand alone.

    Raises ConfigError for an unknown domain.
    """
    if domain is not None and domain not in FILES:
        hint = did_you_mean(domain, FILES)
        raise ConfigError(
            f"data.source='opinions/{domain}': no such domain.{hint} Allowed: {', '.join(FILES)}."
        )
    with tarfile.open(archive) as tar:
        frames = [_read_domain(tar, name) for name in ([domain] if domain else FILES)]
    return from_frame("opinions" if domain is None else f"opinions/{domain}", pl.concat(frames))


def _read_domain(tar: tarfile.TarFile, domain: str) -> pl.DataFrame:
    truth = _read_member(tar, f"{FILES[domain]}_GroundTruth.txt", ["id", "rating", "text"])
    raters = _read_member(
        tar, f"{FILES[domain]}_anonDataRatings.txt", ["id", "mean", "spread", "ratings"]
    )
    rating, spread = pl.col("rating").cast(pl.Float64), pl.col("spread").cast(pl.Float64)
    # Same id, other sentence: 199 of the 4,200 tweets have another mean in the ratings file, so
    # their ratings belong to some other text. No other column ties the two files together.
    same = (rating - pl.col("mean").cast(pl.Float64)).abs() < 1e-6
    label = (
        pl.when(rating < -THRESHOLD)
        .then(pl.lit("negative"))
        .when(rating > THRESHOLD)
        .then(pl.lit("positive"))
        .otherwise(pl.lit("neutral"))
    )
    return truth.join(raters, on="id", how="left", maintain_order="left").select(
        pl.format("{}-{}", pl.lit(domain), "id").alias("id"),
        "text",
        label.alias("label"),
        pl.lit(domain).alias("domain"),
        rating.alias("rating"),
        pl.when(same).then(spread).alias("spread"),
        pl.format("{}-{}", pl.lit(domain), pl.col("id").str.split("_").list.first()).alias("group"),
    )


def _read_member(tar: tarfile.TarFile, name: str, columns: list[str]) -> pl.DataFrame:
    """A member's tab-separated lines, without quoting or header; one of the files starts with a
    BOM."""
    file = tar.extractfile(f"hutto_ICWSM_2014/{name}")
    assert file is not None, name
    # Not splitlines(): it would also split inside a text at the odd Unicode line separator.
    lines = file.read().decode("utf-8-sig").split("\r\n")
    rows = [line.split("\t") for line in lines if line]
    if "text" in columns:
        # The texts were taken from web pages: "&amp;" there stands for the "&" that people typed
        # and that a tokenizer should see. A few newspaper texts were escaped twice. strip(): some
        # texts end in a stray tab or space.
        rows = [[*row[:-1], html.unescape(html.unescape(row[-1])).strip()] for row in rows]
    return pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")

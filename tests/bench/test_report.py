"""The README's and the docs' figures are those of the stored result, and the page shows all of it."""

import json

import pytest

import report
import tables


@pytest.fixture(scope="module")
def result():
    """The stored result that the README names."""
    name = report.BLOCK.search((report.ROOT / "README.md").read_text())[3]
    return json.loads((report.RESULTS / name).read_text())


@pytest.mark.parametrize("document", report.DOCUMENTS, ids=lambda path: path.name)
def test_the_figures_in_a_document_are_the_stored_ones(document):
    """Between its markers stands what the result gives: `python bench/report.py --docs` writes it."""
    text = document.read_text()
    assert report.BLOCK.search(text)
    assert report.refreshed(text) == text


def test_a_figure_changed_by_hand_is_found():
    """A document that drifts from its result is not what it would be made into."""
    text = (report.ROOT / "README.md").read_text()
    drifted = text.replace(" µs |", " ns |", 1)
    assert drifted != text and report.refreshed(drifted) == text


def test_every_chapter_says_something_of_the_stored_result(result):
    """No part is missing from the result that the README names."""
    for _title, name in tables.CHAPTERS:
        assert tables.MADE[name](result) != tables.ABSENT
        assert tables.MADE[name](result).count("\n") > 3


def test_a_part_that_was_not_measured_says_so(result):
    """A result of an older or a partial run makes a page all the same."""
    partial = {"machine": result["machine"], "measured": "2026-01-01", "figures": {}}
    assert {name for _title, name in tables.CHAPTERS if tables.MADE[name](partial) == tables.ABSENT} == \
        {name for _title, name in tables.CHAPTERS} - {"budget"}
    assert "<h2>Budgets</h2>" in report.page(partial, b"")


def test_the_page_holds_tables_and_the_picture(result):
    """One file: nothing is fetched from elsewhere, and what is over its budget is marked."""
    page = report.page(result, b"a picture")
    assert page.count("<table>") == page.count("</table>") == len(tables.CHAPTERS)
    assert "data:image/png;base64," in page and "http" not in page.replace("https://", "")
    over = [name for name, one in result["figures"].items() if one["is_kept"] is False]
    assert page.count('class="over"') == len(over)


def test_a_machine_without_known_frequency_has_a_heading(result):
    """What a machine does not say is left out."""
    said = tables.heading({**result, "machine": {**result["machine"], "mhz": None}})
    assert "MHz" not in said and result["machine"]["cpu"] in said

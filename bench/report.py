"""Make the page of a result, and the figures of README.md and docs/latency.md.

    python bench/report.py [RESULT.json]            out/bench.html and out/bench.png; the table on standard output
    python bench/report.py --docs [RESULT.json]     the same, and the parts of README.md and docs/latency.md between
                                                    <!-- bench:NAME --> and <!-- /bench --> written anew

Without a name it is the newest of bench/results. tests/bench holds the documents against the result they name.
"""

from __future__ import annotations

import base64
import html
import json
import re
import sys
from pathlib import Path

import drawing
import tables

HERE = Path(__file__).parent
ROOT = HERE.parent
RESULTS, OUT = HERE / "results", ROOT / "out"
DOCUMENTS = (ROOT / "README.md", ROOT / "docs" / "latency.md")
BLOCK = re.compile(r"(<!-- bench:(\w+) (\S+) -->\n).*?(<!-- /bench -->)", re.DOTALL)
STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#222}
table{border-collapse:collapse;margin:1rem 0;font-size:14px}
td,th{border-bottom:1px solid #ddd;padding:.3rem .7rem;text-align:left}
td.n{text-align:right;font-variant-numeric:tabular-nums}td.over{color:#b00;font-weight:600}
img{max-width:100%}h2{margin-top:2.5rem}"""


def refreshed(text: str, results: Path = RESULTS) -> str:
    """Return a document with every block between its markers made anew from the result that its marker names."""
    def block(found: re.Match[str]) -> str:
        result = json.loads((results / found[3]).read_text())
        return found[1] + tables.MADE[found[2]](result).rstrip("\n") + "\n" + found[4]
    return BLOCK.sub(block, text)


def page(result: dict, picture: bytes) -> str:
    """Return the HTML page, the picture within it."""
    parts = [f"<h1>What oomguard costs</h1><p>{html.escape(tables.heading(result))}</p>",
             f'<img alt="distributions" src="data:image/png;base64,{base64.b64encode(picture).decode()}">']
    for title, name in tables.CHAPTERS:
        parts.append(f"<h2>{html.escape(title)}</h2>{_as_html(tables.MADE[name](result))}")
    return (f"<!doctype html><html lang=en><meta charset=utf-8><title>oomguard bench</title><style>{STYLE}</style>"
            f"<body>{''.join(parts)}</body></html>\n")


def _as_html(markdown: str) -> str:
    """Return tables and paragraphs as HTML; a cell with a figure is set right, one over its budget is marked."""
    made, is_table = [], False
    for line in markdown.splitlines():
        if line.startswith("|---"):
            continue
        if line.startswith("|"):
            tag = "td" if is_table else "th"
            cells = "".join(f"<{tag}{_class(cell)}>{html.escape(cell)}</{tag}>" for cell in
                            (cell.strip().replace("**", "") for cell in line.strip("|").split("|")))
            made.append(f"{'' if is_table else '<table>'}<tr>{cells}</tr>")
            is_table = True
        else:
            made.append(("</table>" if is_table else "") + (f"<p>{html.escape(line)}</p>" if line else ""))
            is_table = False
    return "\n".join(made) + ("</table>" if is_table else "")


def _class(cell: str) -> str:
    if cell == "over":
        return ' class="over"'
    return ' class="n"' if re.fullmatch(r"[≤≥<]?\s*[\d., ]+( ?(µs|ms|s|x|×|%|MB|KiB|M samples/s))?", cell) else ""


def main(argv: list[str]) -> int:
    """Write the page of one result: the one named, else the newest."""
    names = [word for word in argv[1:] if word != "--docs"]
    paths = [Path(names[0])] if names else sorted(RESULTS.glob("*.json"), key=lambda path: path.stat().st_mtime)
    if not paths:
        sys.stderr.write("nothing measured yet: run `make bench`\n")
        return 1
    result = json.loads(paths[-1].read_text())
    OUT.mkdir(exist_ok=True)
    picture = drawing.picture(result)
    (OUT / "bench.png").write_bytes(picture)
    (OUT / "bench.html").write_text(page(result, picture))
    sys.stdout.write(f"{tables.heading(result)}\n\n{tables.budget(result)}\n")
    if "--docs" in argv:
        for document in DOCUMENTS:
            document.write_text(refreshed(document.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))

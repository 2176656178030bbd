"""What `mkdocs build` does beside Markdown: formulas become MathML, records of runs become tables and figures.

    $...$ and $$...$$              MathML, at build time: the site needs no renderer
    <!-- records: toy_table -->    the function of that name in `records.py`
"""

import html
import pathlib
import re
import sys
from typing import Any

from latex2mathml.converter import convert

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import records

_RECORD = re.compile(r"<!-- records: (\w+) -->")
_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_DISPLAY = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Put in the tables and figures of the records."""
    return _RECORD.sub(lambda found: getattr(records, found[1])(), markdown)


def on_page_content(content: str, **kwargs: Any) -> str:
    """Put in the formulas."""
    content = _INLINE.sub(lambda found: mathml(found[1], "inline"), content)
    return _DISPLAY.sub(lambda found: f'<div class="formula">{mathml(found[1], "block")}</div>', content)


def mathml(tex: str, display: str) -> str:
    """MathML of a formula; d stands for the differential and is upright, log keeps its distance."""
    tree = convert(html.unescape(tex).strip(), display=display)
    tree = tree.replace("<mi>&#x00064;</mi>", '<mi mathvariant="normal">d</mi>')
    return tree.replace("<mi>log</mi>", '<mspace width="0.167em" /><mi>log</mi><mspace width="0.167em" />')

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
    """MathML of a formula, with what TeX does and the converter does not."""
    tree = convert(html.unescape(tex).strip(), display=display)
    # d stands for the differential: it and the capital Greek are upright, log keeps its distance.
    for letter in ("&#x00064;", "&#x00394;"):
        tree = tree.replace(f"<mi>{letter}</mi>", f'<mi mathvariant="normal">{letter}</mi>')
    tree = tree.replace("<mi>log</mi>", '<mspace width="0.167em" /><mi>log</mi><mspace width="0.167em" />')
    for relation, symbol in (("&#x000B1;", "&#x000B1;"), ("&#x0007E;", "&#x0223C;")):
        tree = tree.replace(f"<mi>{relation}</mi>", f"<mo>{symbol}</mo>")
    # What `operatorname` names is a function, not an operator with space on both sides.
    tree = re.sub(r"<mo[^>]*>([a-z]{2,})</mo>", r"<mi>\1</mi>", tree)
    # A plus or minus after a bracket, a comma or a relation is a sign, not a difference.
    before = r"(<mo[^>]*>(?:&#x00028;|&#x0005B;|\(|\[|&#x0002C;|,|&#x0003D;|=)</mo>)"
    return re.sub(before + r"<mo>(&#x02212;|&#x0002B;|&#x000B1;)</mo>", r'\1<mo form="prefix">\2</mo>', tree)

"""Write the toy problem's table into the README, from the record of its run.

python docs/update_readme.py
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import records

README = pathlib.Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- toy table: begin -->", "<!-- end -->"


def updated(readme: str) -> str:
    """The README with the table of the record that is there now."""
    block = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if len(block.findall(readme)) != 1:
        raise ValueError(f"README.md needs one {BEGIN} ... {END}.")
    return block.sub(lambda _: f"{BEGIN}\n\n{records.toy_table()}\n\n{END}", readme)


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))

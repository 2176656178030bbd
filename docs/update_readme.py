"""Write the examples' tables into the README, from the records of their runs.

python docs/update_readme.py
"""

import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import records

README = pathlib.Path(__file__).parent.parent / "README.md"
END = "<!-- end -->"


def updated(readme: str) -> str:
    """The README with the tables of the records that are there now."""
    for name, table in (("toy", records.toy_table), ("heat", records.heat_table)):
        begin = f"<!-- {name} table: begin -->"
        block = re.compile(f"{re.escape(begin)}.*?{re.escape(END)}", re.DOTALL)
        if len(block.findall(readme)) != 1:
            raise ValueError(f"README.md needs one {begin} ... {END}.")
        readme = block.sub(lambda _: f"{begin}\n\n{table()}\n\n{END}", readme)  # noqa: B023
    return readme


if __name__ == "__main__":
    README.write_text(updated(README.read_text()))

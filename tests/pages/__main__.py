"""Print what pages say today, to be read beside situations.toml: `python -m tests.pages [words of a situation's name]`.

`+` stands before a line that only the page has, `-` before one that only the table has.
"""

import difflib
import sys

from tests.pages.lines import lines
from tests.pages.situations import READINGS, situations

wanted = " ".join(sys.argv[1:])
for situation in situations():
    for reading in READINGS if wanted in situation.name else ():
        page = lines(situation.html[reading])
        differences = difflib.unified_diff(situation.page(reading), page, "table", "page", n=len(page), lineterm="")
        print(f"\n== {situation.name}: {', '.join(reading)}", *(list(differences) or page), sep="\n")

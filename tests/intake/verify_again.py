"""`hoso24` again and again in one process, which has read its modules once: `verify_again COUNT WORDS…`.

Prints a JSON array for each run: exit status and lines. Words are a JSON array of arrays, of which runs take turns.
"""

import contextlib
import io
import json
import sys

import hoso24


def main(count: int, turns: list[list[str]]) -> None:
    """Run the command `count` times."""
    for run in range(count):
        sys.argv = ["hoso24", *turns[run % len(turns)]]
        out, status = io.StringIO(), None
        with contextlib.redirect_stdout(out):
            try:
                hoso24.main()
            except SystemExit as end:
                status = end.code
        print(json.dumps([status or 0, out.getvalue().splitlines()]), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]))

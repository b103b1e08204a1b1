"""The running numbers of agencies, raised above codes that were issued elsewhere."""

from datetime import date
from typing import Final

from lookup.code import DossierCode, Scheme

HIGHEST_NUMBER: Final = 999_999
"""The highest running number that raises its agency's sequence. No agency gets there in a day, or with scheme D in a
year; a number of ten digits, as some systems write them, would leave it none to issue."""

# In one order, so that two transactions cannot wait for one another; before any dossier is written, since a reception
# holds its agency's sequence while it writes one.
RAISE_SEQUENCES = """
INSERT INTO daily_sequence AS s (agency, day, last)
SELECT agency, day, last
  FROM unnest($1::text[], $2::date[], $3::bigint[]) AS brought (agency, day, last)
 ORDER BY agency, day
    ON CONFLICT (agency, day) DO UPDATE
   SET last = excluded.last
 WHERE s.last < excluded.last
"""


def sequence_of(code: DossierCode) -> tuple[str, date, int]:
    """The agency, the day (1 January for scheme D) and the running number by which an intake could issue this code."""
    if code.scheme is Scheme.D:
        number, year, agency = code.text.split("/")
        return agency, date(int(year), 1, 1), int(number)
    agency, day, number = code.text.rsplit("-", 2)
    owner = agency[1:3] if code.scheme is Scheme.C else ""
    return agency, date(2000 + int(day[:2]), int(day[2:4]), int(day[4:])), int(number.removeprefix(owner))

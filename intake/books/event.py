"""Table `event` in SQL: how an event of intake/books/seal.py is appended. lookup/schema/0003_log.sql says what each
column means; PostgreSQL fills `xid` and `seq`, and the dossier's row follows (0004_the_row_follows_the_log.sql).
"""

from intake.books.seal import ROW_COLUMNS

APPEND_EVENT = f"""
INSERT INTO event ({", ".join(ROW_COLUMNS)})
VALUES ({", ".join(f"${n}" for n, _ in enumerate(ROW_COLUMNS, start=1))})
RETURNING xid, seq
"""

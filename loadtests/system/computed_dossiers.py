"""A million dossiers whose codes can be computed, so that a load generator needs no list of them.

`wrk/codes.lua` and INSERT write the same codes as `code`. Ten thousand a day, twenty-five days a month.
"""

from typing import Any

PER_DAY, DAYS_A_MONTH = 10_000, 25

SPARE = 20_000
"""Further dossiers behind those that are measured, for warming up and for trying out."""

MOST = 12 * DAYS_A_MONTH * PER_DAY - SPARE

# The rows of the sample catalogue that the dossiers refer to, because `hoso24 up --no-samples` installs none.
AGENCY = """
INSERT INTO agency (code, parent, name_vi, name_en, valid_from, sample)
VALUES ('G99',       NULL,  'Bảo hiểm xã hội Xứ Mẫu (hư cấu)', 'Sampleland (fictitious)',   '2020-01-01', true),
       ('G99.05.02', 'G99', 'Bảo hiểm xã hội cơ sở (hư cấu)',  'Local office (fictitious)', '2020-01-01', true)
    ON CONFLICT DO NOTHING
"""

SERVICE = """
INSERT INTO service (code, name_vi, name_en, field_code, sensitive, valid_from, sample)
VALUES ('S.004', 'Giải quyết chế độ (ví dụ)', 'Settlement of a benefit (example)', 'BHXH', false, '2020-01-01', true)
    ON CONFLICT DO NOTHING
"""

# Every dossier has been received and taken up; the third step is one of four, so that answers are of four kinds.
INSERT = f"""
INSERT INTO dossier (code, version, status, service, agency, origin, channel, submitted_at, received_at, due_at,
                     finished_at, pauses, supplements, action_needed, timeline, calendar,
                     applicant_kind, applicant_name, applicant_id, applicant_phone, applicant_address, subject)
SELECT format('G99.05.02-26%s%s-%s', to_char(1 + day / {DAYS_A_MONTH}, 'FM00'),
                                     to_char(1 + day % {DAYS_A_MONTH}, 'FM00'),
                                     to_char(n % {PER_DAY}, 'FM00000')),
       3, third.status, 'S.004', 'G99.05.02', 'G99.05.02', 'direct',
       at, at, at + interval '14 days', CASE WHEN third.status = 9 THEN at + interval '5 days' END,
       CASE WHEN third.status IN (5, 6) THEN jsonb_build_array(jsonb_build_object(
           'status', third.status, 'since', to_char(at + interval '5 days', 'YYYY-MM-DD"T"HH24:MI:SS"+07:00"'),
           'until', NULL, 'policy', 'shift', 'due_before', NULL)) ELSE '[]' END,
       CASE WHEN third.status = 5 THEN 1 ELSE 0 END, third.action_needed,
       jsonb_build_array(
           jsonb_build_object('at', to_char(at, 'YYYY-MM-DD"T"HH24:MI:SS"+07:00"'), 'status', 'received',
                              'agency', 'G99.05.02', 'department', 'Bộ phận Một cửa (hư cấu)'),
           jsonb_build_object('at', to_char(at + interval '1 day', 'YYYY-MM-DD"T"HH24:MI:SS"+07:00"'),
                              'status', 'processing', 'agency', 'G99.05.02', 'department', 'Phòng Chế độ (hư cấu)'),
           jsonb_build_object('at', to_char(at + interval '5 days', 'YYYY-MM-DD"T"HH24:MI:SS"+07:00"'),
                              'status', third.slug, 'agency', 'G99.05.02', 'department', 'Phòng Chế độ (hư cấu)')),
       'vn',
       1, 'Nguyễn Văn Mẫu ' || n || ' (hư cấu)', to_char(n, 'FM999000000000'), '0900000000',
       'Số 1, đường Ví Dụ, Xứ Mẫu (hư cấu)', 'Hồ sơ mẫu (hư cấu)'
  FROM generate_series(0, $1::integer - 1) AS n
 CROSS JOIN LATERAL (SELECT n / {PER_DAY} AS day) AS calendar
 CROSS JOIN LATERAL (SELECT timestamptz '2026-01-02 01:00:00+00' + day * interval '1 day'
                            + (n % {PER_DAY}) * interval '3 seconds' AS at) AS moment
  JOIN (VALUES (0, 4::smallint, 'processing',          NULL),
               (1, 5::smallint, 'supplement_required', 'Bổ sung bản sao sổ bảo hiểm (ví dụ).'),
               (2, 6::smallint, 'payment_required',    'Nộp lệ phí tại Bộ phận Một cửa (ví dụ).'),
               (3, 9::smallint, 'completed',           NULL)) AS third (remainder, status, slug, action_needed)
    ON third.remainder = n % 4
"""

# The event that the intake's ledger appends when one department hands a dossier over to another; the row follows it.
# The rows above came without a log, and this event has no true seal; neither matters to the relay.
MOVE = """
INSERT INTO event (epoch, code, version, kind, occurred_at, recorded_at, source, status, agency, origin, outcome,
                   received_at, due_at, finished_at, returned_at, calendar, supplements, key_serial, actor, department,
                   salt, seal)
SELECT (SELECT max(number) FROM epoch), code, version + 1, 'moved', now(), now(), 'bench', status, agency, origin,
       outcome, received_at, due_at, finished_at, returned_at, calendar, supplements, key_serial, 'bench', $2,
       decode(md5('salt'), 'hex'), decode(md5('seal'), 'hex')
  FROM dossier
 WHERE code = $1
RETURNING version
"""


def code(n: int) -> str:
    """The code of the n-th dossier."""
    day = n // PER_DAY
    return f"G99.05.02-26{1 + day // DAYS_A_MONTH:02d}{1 + day % DAYS_A_MONTH:02d}-{n % PER_DAY:05d}"


async def move(writer: Any, number: int, department: str) -> int:
    """Move a dossier in processing on to another department; its version, once that is committed."""
    return int(await writer.fetchval(MOVE, code(number), department))


async def write(owner: Any, count: int) -> None:
    """Put `count` dossiers and the spare ones behind them into the empty table, and leave a vacuum nothing to do."""
    await owner.execute(AGENCY)
    await owner.execute(SERVICE)
    await owner.execute(INSERT, count + SPARE, timeout=1800)
    await owner.execute("VACUUM (ANALYZE) dossier", timeout=1800)

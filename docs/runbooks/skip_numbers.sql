-- Step 6 of restore.md: every agency's numbers skip a thousand, so that none on a lost receipt is given again.
WITH since AS (SELECT timestamptz :'target' AT TIME ZONE 'Asia/Ho_Chi_Minh' AS first,
                      now() AT TIME ZONE 'Asia/Ho_Chi_Minh' AS last),
     days AS (SELECT generate_series(first::date, last::date, interval '1 day')::date AS day FROM since
              UNION SELECT date_trunc('year', first)::date FROM since
              UNION SELECT date_trunc('year', last)::date FROM since)
INSERT INTO hoso24.daily_sequence AS s (agency, day, last)
SELECT agency.code, days.day, 1000 FROM hoso24.agency, days
    ON CONFLICT (agency, day) DO UPDATE SET last = s.last + 1000;

"""No table of public figures lets anybody work out what fewer than five dossiers of one service did."""

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from lookup.web.figures import CHANNELS, ENOUGH, STOCKS, Cell, Flow, FlowRow, StockRow, flow_rows, stock_rows

NOVEMBER, JANUARY = date(2026, 11, 1), date(2026, 1, 1)
MEASURES = ("received", "early", "on_time", "late", "undated", "refused", "withdrawn", "supplement", "put_off", *STOCKS)

cells = st.lists(
    st.builds(
        Cell,
        of=st.sampled_from([f"S.{n:03}" for n in range(1, 8)]),
        month=st.sampled_from([NOVEMBER, JANUARY, date(2025, 12, 1)]),
        channel=st.sampled_from(CHANNELS),
        measure=st.sampled_from(MEASURES),
        n=st.integers(1, 9),
    ),
    max_size=40,
)


@given(cells)
def test_row_that_is_shown_speaks_of_five_dossiers_or_more(found: list[Cell]) -> None:
    rows: list[FlowRow | StockRow] = [*flow_rows(found, NOVEMBER, NOVEMBER), *flow_rows(found, JANUARY, NOVEMBER)]
    for row in [*rows, *stock_rows(found)]:
        assert row.figures is None or row.figures.size >= ENOUGH


@given(cells)
def test_total_less_the_other_rows_tells_no_service_that_is_too_small(found: list[Cell]) -> None:
    for rows in (flow_rows(found, NOVEMBER, NOVEMBER), flow_rows(found, JANUARY, NOVEMBER), stock_rows(found)):
        for row in rows:
            if len(row.of) == 1 and len(rows) > 1:
                assert row.figures is not None
            if row.figures is None:
                assert len(rows) == 1  # nothing else to subtract it from
        assert sum(len(row.of) > 1 for row in rows) <= 1


@given(cells)
def test_nothing_is_lost_by_merging(found: list[Cell]) -> None:
    rows = flow_rows(found, JANUARY, NOVEMBER)
    shown = [row.figures for row in rows if row.figures]
    told = [each for each in found if JANUARY <= each.month <= NOVEMBER and each.measure not in STOCKS]
    assert sorted(code for row in rows for code in row.of) == sorted({each.of for each in told})
    if all(row.figures for row in rows):
        assert sum(sum(each.received.values()) for each in shown) == sum(c.n for c in told if c.measure == "received")
        assert sum(each.late for each in shown) == sum(c.n for c in told if c.measure == "late")


def test_one_small_service_takes_the_next_one_with_it() -> None:
    found = [
        Cell("S.001", NOVEMBER, "direct", "received", 1),
        Cell("S.002", NOVEMBER, "online", "received", 7),
        Cell("S.003", NOVEMBER, "direct", "received", 90),
        Cell("S.003", NOVEMBER, "direct", "early", 30),
        Cell("S.003", NOVEMBER, "direct", "on_time", 15),
        Cell("S.003", NOVEMBER, "direct", "late", 15),
    ]
    large, small = flow_rows(found, NOVEMBER, NOVEMBER)
    assert (large.of, small.of) == (["S.003"], ["S.001", "S.002"])
    assert small.figures == Flow({"direct": 1, "online": 7, "postal": 0}, 0, 0, 0, 0, 0, 0, 0, 0, None)
    assert large.figures is not None
    assert large.figures.on_time_share == 0.75


def test_three_that_came_in_and_three_others_that_ended_are_too_few() -> None:
    found = [
        Cell("S.001", NOVEMBER, "direct", "received", 3),
        Cell("S.002", NOVEMBER, "direct", "late", 3),
        Cell("S.003", NOVEMBER, "direct", "received", 50),
        Cell("S.004", NOVEMBER, "direct", "received", 60),
    ]
    large, small = flow_rows(found, NOVEMBER, NOVEMBER)
    assert (large.of, small.of) == (["S.004"], ["S.001", "S.002", "S.003"])


def test_agency_with_four_dossiers_in_all_shows_none() -> None:
    (row,) = flow_rows([Cell("S.001", NOVEMBER, "direct", "received", 4)], NOVEMBER, NOVEMBER)
    assert (row.of, row.figures) == (["S.001"], None)

"""Tasks: each rule by examples, and every walk of a small office to its end."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

import pytest

from intake.refusals import TasksLive, TooManyTasks, WrongTask
from intake.rules.tasks import BY_MOVES, MOST, Tasks, asked, begun, ended, follow, opened
from intake.rules.workdays import SHIPPED
from lookup.catalogue import Part
from lookup.clock import VIETNAM
from lookup.status import MOVES, Status

S = Status
ORIGIN, PROVINCE, OTHER = "H1.1.1", "H1.1", "H1.2"
ROUTE = (Part("Thẩm định", 24, PROVINCE), Part("Giải quyết", 16, None))


def on(text: str) -> datetime:
    """`11-16 10:00` on a Vietnamese clock; 16 November 2026 is a Monday, and the 24th a public holiday."""
    return datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=VIETNAM)


@dataclass(frozen=True)
class Standing:
    status: Status
    agency: str
    origin: str
    received_at: datetime | None
    due_at: datetime | None


AT, DUE = on("11-16 10:00"), on("11-23 10:00")


def standing(status: Status = S.RECEIVED, **more: Any) -> Standing:
    given: dict[str, Any] = {"agency": ORIGIN, "origin": ORIGIN, "received_at": AT, "due_at": DUE} | more
    return Standing(status=status, **given)


def tasks_of(now: Standing | None = None, route: tuple[Part, ...] = ()) -> Tasks:
    return begun(AT, now or standing(), route=route, calendar=SHIPPED, decision_hours=8)


def followed(tasks: Tasks, before: Standing, now: Standing, at: datetime = AT, route: tuple[Part, ...] = ()) -> Tasks:
    return follow(tasks, at, before, now, route=route, calendar=SHIPPED)


def told(tasks: Tasks) -> list[str]:
    return [f"{task.number} {task.kind} {task.agency} {task.state}" for task in tasks]


# -- the one-stop's own path -----------------------------------------------------------------------------------------


def test_application_is_decided_on_within_eight_office_hours() -> None:
    [decide] = tasks_of(standing(S.SUBMITTED, received_at=None, due_at=None))
    assert (decide.kind, decide.state, decide.due_at) == ("decide", "open", on("11-17 10:00"))


def test_whole_path_of_an_application() -> None:
    before = standing(S.SUBMITTED, received_at=None, due_at=None)
    tasks = tasks_of(before)
    path = [S.RECEIVED, S.PROCESSING, S.COMPLETED, S.RETURNED]
    seen = []
    for status in path:
        now = standing(status)
        tasks, before = followed(tasks, before, now), now
        seen.append([f"{task.kind} {task.state}" for task in tasks])
    assert seen == [
        ["decide done", "work open"],
        ["decide done", "work open"],
        ["decide done", "work done", "hand_over open"],
        ["decide done", "work done", "hand_over done"],
    ]


@pytest.mark.parametrize("end", [S.REJECTED, S.WITHDRAWN])
def test_nothing_is_owed_of_a_dossier_that_ends_without_work(end: Status) -> None:
    tasks = followed(tasks_of(route=ROUTE), standing(), standing(end))
    assert [task.state for task in tasks] == ["cancelled", "cancelled"]
    assert {task.ended_at for task in tasks} == {AT}


def test_parts_of_a_route_follow_one_another_and_the_last_is_due_with_the_dossier() -> None:
    tasks = tasks_of(route=ROUTE)
    assert told(tasks) == [f"1 work {PROVINCE} open", f"2 work {ORIGIN} waiting"]
    assert [task.due_at for task in tasks] == [on("11-19 10:00"), DUE]
    after = ended(tasks, 1, "done", on("11-18 09:00"))
    assert told(after) == [f"1 work {PROVINCE} done", f"2 work {ORIGIN} open"]
    assert after[1].opened_at == on("11-18 09:00")


def test_part_of_a_route_is_due_with_the_dossier_at_the_latest() -> None:
    tasks = tasks_of(standing(due_at=on("11-18 10:00")), route=ROUTE)
    assert [task.due_at for task in tasks] == [on("11-18 10:00"), on("11-18 10:00")]


def test_dossier_without_tasks_gets_none_by_its_moves() -> None:
    assert followed((), standing(), standing(S.COMPLETED)) == ()


def test_corrected_result_opens_the_same_tasks_again() -> None:
    tasks, before = tasks_of(), standing()
    for _ in range(30):
        for status in (S.COMPLETED, S.PROCESSING):
            now = standing(status)
            tasks, before = followed(tasks, before, now), now
    assert told(tasks) == [f"1 work {ORIGIN} open", f"2 hand_over {ORIGIN} cancelled"]
    assert tasks[0].ended_at is None


def test_live_tasks_of_the_former_lead_are_the_new_leads() -> None:
    tasks = opened(tasks_of(), AT, agency=OTHER, kind="opinion", work="Ý kiến")
    after = followed(tasks, standing(), standing(S.PROCESSING, agency=PROVINCE))
    assert told(after) == [f"1 work {PROVINCE} open", f"2 opinion {OTHER} open"]


def test_result_is_handed_over_by_the_origin() -> None:
    lead = standing(S.PROCESSING, agency=PROVINCE)
    done = followed(followed(tasks_of(), standing(), lead), lead, standing(S.COMPLETED, agency=PROVINCE))
    assert told(done) == [f"1 work {PROVINCE} done", f"2 hand_over {ORIGIN} open"]


def test_new_due_date_moves_what_is_live_by_as_much_working_time() -> None:
    tasks = ended(opened(tasks_of(route=ROUTE), AT, agency=OTHER, kind="opinion", work="x"), 3, "done", AT)
    tasks = opened(tasks, AT, agency=OTHER, kind="opinion", work="y", due_at=on("11-18 16:00"))
    after = followed(tasks, standing(S.PROCESSING), standing(S.PROCESSING, due_at=on("11-25 10:00")))
    assert [task.due_at for task in after] == [on("11-20 10:00"), on("11-25 10:00"), None, on("11-19 16:00")]


# -- what agencies do ------------------------------------------------------------------------------------------------


def test_completion_waits_for_other_agencies_and_not_for_the_lead() -> None:
    tasks = opened(tasks_of(), AT, agency=OTHER, kind="opinion", work="Ý kiến")
    with pytest.raises(TasksLive) as refused:
        followed(tasks, standing(), standing(S.COMPLETED))
    assert refused.value.members == {"tasks": [2]}
    assert followed(ended(tasks, 2, "refused", AT), standing(), standing(S.COMPLETED))[0].state == "done"


def test_question_is_the_leads_and_its_answer_opens_the_task_again() -> None:
    tasks = asked(tasks_of(route=ROUTE), 1, ORIGIN, "Thiếu bản chính?", AT)
    assert told(tasks) == [f"1 work {PROVINCE} asked", f"2 work {ORIGIN} waiting", f"3 opinion {ORIGIN} open"]
    with pytest.raises(WrongTask, match="waits for task 3"):
        ended(tasks, 1, "done", AT)
    for end in ("done", "refused", "cancelled"):
        assert told(ended(tasks, 3, end, AT))[0] == f"1 work {PROVINCE} open"


def test_refused_part_leaves_what_waits_for_the_lead_to_decide() -> None:
    tasks = ended(tasks_of(route=ROUTE), 1, "refused", AT)
    assert told(tasks)[1] == f"2 work {ORIGIN} waiting"
    assert told(ended(tasks, 2, "cancelled", AT))[1] == f"2 work {ORIGIN} cancelled"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tasks: ended(tasks, 9, "done", AT), "no task 9"),
        (lambda tasks: ended(tasks, 0, "done", AT), "no task 0"),
        (lambda tasks: ended(tasks, 2, "done", AT), "waits for task 1"),
        (lambda tasks: ended(ended(tasks, 1, "done", AT), 1, "done", AT), "is done already"),
        (lambda tasks: asked(tasks, 2, ORIGIN, "?", AT), "is waiting"),
        (lambda tasks: asked(ended(tasks, 1, "done", AT), 2, ORIGIN, "?", AT), "the lead's own"),
        (lambda tasks: opened(tasks, AT, agency=OTHER, kind="hand_over", work=""), "by the dossier's moves"),
        (lambda tasks: opened(tasks, AT, agency=OTHER, kind="work", work="", after=3), "no task 3"),
    ],
)
def test_what_cannot_be_done_is_refused_in_words(change: Any, words: str) -> None:
    with pytest.raises(WrongTask, match=words):
        change(tasks_of(route=ROUTE))


def test_full_dossier_is_still_completed_corrected_and_handed_over() -> None:
    tasks = tasks_of()
    while len(tasks) < MOST - 2:
        tasks = ended(opened(tasks, AT, agency=OTHER, kind="opinion", work="x"), len(tasks) + 1, "done", AT)
    with pytest.raises(TooManyTasks):
        opened(tasks, AT, agency=OTHER, kind="opinion", work="x")
    with pytest.raises(TooManyTasks):
        asked(ended(tasks_of(route=ROUTE * 6), 1, "done", AT), 2, OTHER, "?", AT)
    before = standing()
    for status in (S.COMPLETED, S.PROCESSING, S.COMPLETED, S.RETURNED):
        now = standing(status)
        tasks, before = followed(tasks, before, now), now
    assert len(tasks) <= MOST
    assert not any(task.live for task in tasks)


# -- all walks -------------------------------------------------------------------------------------------------------


def steps(tasks: Tasks, now: Standing) -> Iterator[tuple[str, Tasks, Standing]]:
    """Everything that anybody may do next, each with who does it."""
    for task in tasks:
        if task.live and task.kind not in BY_MOVES:
            for doer, end in ((task.agency, "done"), (task.agency, "refused"), (now.agency, "cancelled")):
                try:
                    yield doer, ended(tasks, task.number, end, AT), now  # type: ignore[arg-type]
                except WrongTask:
                    continue
        try:
            yield task.agency, asked(tasks, task.number, now.agency, "?", AT), now
        except (WrongTask, TooManyTasks):
            continue
    if len(tasks) < 5 and now.status is S.PROCESSING:
        for agency in (PROVINCE, OTHER):
            live = [task.number for task in tasks if task.live]
            for after in (None, *live[-1:]):
                yield now.agency, opened(tasks, AT, agency=agency, kind="opinion", work="x", after=after), now
    for status in MOVES[now.status]:
        for agency in {now.agency, PROVINCE}:
            received = now.received_at or (AT if status in (S.RECEIVED, S.PROCESSING) else None)
            moved = standing(status, agency=agency, received_at=received, due_at=DUE if received else None)
            try:
                yield now.agency, followed(tasks, now, moved), moved
            except TasksLive:
                continue


def shape(tasks: Tasks, now: Standing) -> tuple[Any, ...]:
    return (now.status, now.agency, *((task.agency, task.kind, task.state, task.after) for task in tasks))


@pytest.mark.parametrize("route", [(), ROUTE], ids=["one office", "a route"])
@pytest.mark.parametrize("online", [False, True])
def test_no_walk_gets_stuck_or_completes_over_a_live_task(route: tuple[Part, ...], online: bool) -> None:
    start = standing(S.SUBMITTED, received_at=None, due_at=None) if online else standing()
    first = tasks_of(start, route)
    seen, unseen = {shape(first, start)}, [(first, start)]
    while unseen and len(seen) < 20_000:
        tasks, now = unseen.pop()
        found = list(steps(tasks, now))
        over = now.status in (S.REJECTED, S.WITHDRAWN, S.RETURNED)
        assert found or over, f"stuck: {shape(tasks, now)}"
        if over:
            assert not any(task.live for task in tasks)
        if now.status is S.COMPLETED:
            assert [task.kind for task in tasks if task.live] in (["hand_over"], [])
        for task in tasks:
            assert (task.state in ("waiting", "asked")) <= (task.after is not None)
            assert (task.ended_at is None) == task.live
        assert [task.number for task in tasks] == list(range(1, len(tasks) + 1))
        for _, after, then in found:
            if len(after) <= 5 and shape(after, then) not in seen:
                seen.add(shape(after, then))
                unseen.append((after, then))
    assert len(seen) > 100


def test_every_live_task_can_be_brought_to_its_end() -> None:
    """Ten thousand random walks: from wherever one stops, the lead alone can complete the work by cancelling."""
    random = Random(17)
    for _ in range(2_000):
        now = standing(S.PROCESSING)
        tasks = tasks_of(now, random.choice([(), ROUTE]))
        for _ in range(random.randrange(12)):
            found = [step for step in steps(tasks, now) if step[2].status is S.PROCESSING]
            _, tasks, now = random.choice(found)
        for task in tasks:
            if tasks[task.number - 1].live and task.agency != now.agency:
                tasks = ended(tasks, task.number, "cancelled", AT + timedelta(hours=1))
        assert followed(tasks, now, standing(S.COMPLETED, agency=now.agency))

"""The closed set of what the service refuses with: programs branch on these codes, so none changes by accident."""

import importlib
import re

import pytest

from ops.errors import Kind, Refusal
from ops.http.problems import HTTP_STATUS

for module in ("lookup.app", "intake.app", "intake.partners.changes", "intake.desk.app"):
    importlib.import_module(module)  # loads all that it may raise

# (code, HTTP status, usual Retry-After in seconds, class)
REFUSALS = [
    ("body_too_slow", 400, None, "bodies.BodyTooSlow"),
    ("idempotency_key_required", 400, None, "refusals.KeyRequired"),
    ("invalid_parameter", 400, None, "parameters.InvalidParameter"),
    ("malformed", 400, None, "errors.Malformed"),
    ("malformed_code", 400, None, "code.MalformedCode"),
    ("malformed_cursor", 400, None, "cursor.MalformedCursor"),
    ("malformed_json", 400, None, "requests.MalformedJson"),
    ("malformed_key", 400, None, "lookup_key.MalformedKey"),
    ("malformed_lookups", 400, None, "api.MalformedLookups"),
    ("unauthenticated", 401, None, "clients.Unauthenticated"),
    ("lookup_key_required", 403, None, "access.KeyRequired"),
    ("out_of_scope", 403, None, "clients.OutOfScope"),
    ("dead_letter_not_found", 404, None, "refusals.UnknownLetter"),
    ("dossier_not_found", 404, None, "access.DossierNotFound"),
    ("dossier_not_found", 404, None, "refusals.UnknownDossier"),
    ("dossier_or_key_not_found", 404, None, "access.DossierOrKeyNotFound"),
    ("not_found", 404, None, "errors.NoSuchPath"),
    ("service_not_found", 404, None, "catalogue_pages.NoSuchService"),
    ("webhook_not_found", 404, None, "webhooks.UnknownWebhook"),
    ("method_not_allowed", 405, None, "errors.MethodNotAllowed"),
    ("dead_letter_incomplete", 409, None, "refusals.LetterIncomplete"),
    ("history_differs", 409, None, "refusals.HistoryDiffers"),
    ("keys_used_up", 409, None, "refusals.KeysUsedUp"),
    ("move_not_allowed", 409, None, "refusals.MoveNotAllowed"),
    ("paper_erased", 410, None, "refusals.PaperErased"),
    ("paper_not_found", 404, None, "refusals.UnknownPaper"),
    ("paper_not_ready", 503, 1, "refusals.PaperNotReady"),
    ("dossier_held", 409, None, "refusals.DossierHeld"),
    ("no_papers", 409, None, "refusals.NoPapers"),
    ("number_taken", 409, None, "refusals.NumberTaken"),
    ("policy_asks", 409, None, "refusals.PolicyAsks"),
    ("policy_blocks", 409, None, "refusals.PolicyBlocks"),
    ("still_running", 409, None, "refusals.StillRunning"),
    ("id_reused", 409, None, "refusals.IdReused"),
    ("sync_running", 409, 1, "refusals.SyncRunning"),
    ("tasks_live", 409, None, "refusals.TasksLive"),
    ("too_many_tasks", 409, None, "refusals.TooManyTasks"),
    ("too_many_webhooks", 409, None, "webhooks.TooManyWebhooks"),
    ("wrong_task", 409, None, "refusals.WrongTask"),
    ("feed_rewound", 410, None, "changes.FeedRewound"),
    ("version_mismatch", 412, None, "refusals.VersionMismatch"),
    ("version_not_reached", 412, None, "read_through.VersionNotReached"),
    ("too_large", 413, None, "errors.TooLarge"),
    ("foreign_form", 403, None, "same_origin.ForeignForm"),
    ("sign_in_refused", 403, None, "oidc.SignInRefused"),
    ("address_too_long", 414, None, "errors.AddressTooLong"),
    ("unsupported_content_coding", 415, None, "bodies.UnsupportedCoding"),
    ("unsupported_media_type", 415, None, "refusals.UnsupportedType"),
    ("unknown_expectation", 417, None, "expectations.UnknownExpectation"),
    ("agency_cannot_number", 422, None, "refusals.CannotNumber"),
    ("agency_ended", 422, None, "refusals.AgencyEnded"),
    ("agency_not_found", 404, None, "figure_pages.NoFiguresOfAgency"),
    ("agency_not_begun", 422, None, "refusals.AgencyNotBegun"),
    ("backdated_too_far", 422, None, "refusals.BackdatedTooFar"),
    ("bad_date", 422, None, "refusals.BadDate"),
    ("dates_out_of_order", 422, None, "refusals.DatesOutOfOrder"),
    ("idempotency_key_reused", 422, None, "refusals.KeyReused"),
    ("invalid_content", 422, None, "requests.InvalidContent"),
    ("line_too_long", 422, None, "refusals.LineTooLong"),
    ("reason_required", 422, None, "refusals.ReasonRequired"),
    ("refused_by_database", 422, None, "refusals.RefusedByDatabase"),
    ("service_ended", 422, None, "refusals.ServiceEnded"),
    ("service_not_begun", 422, None, "refusals.ServiceNotBegun"),
    ("target_not_allowed", 422, None, "refusals.TargetNotAllowed"),
    ("unknown_agency", 422, None, "refusals.UnknownAgency"),
    ("unknown_service", 422, None, "refusals.UnknownService"),
    ("unknown_status", 422, None, "requests.UnknownStatus"),
    ("webhook_url_not_allowed", 422, None, "webhooks.UrlNotAllowed"),
    ("client_limit", 429, 1, "budgets.OverBudget"),
    ("too_many_ratings", 429, None, "ratings.TooManyRatings"),
    ("too_many_requests", 429, 10, "limits.TooManyRequests"),
    ("too_many_wrong_tokens", 429, 1, "clients.TooManyWrongTokens"),
    ("head_too_large", 431, None, "errors.HeadTooLarge"),
    ("internal", 500, None, "errors.Internal"),
    ("catalogue_unavailable", 503, 1, "catalogue_pages.CatalogueUnread"),
    ("feed_halted", 503, 30, "changes.FeedHalted"),
    ("database_away", 503, 5, "refusals.DatabaseAway"),
    ("outcome_unknown", 503, 1, "refusals.OutcomeUnknown"),
    ("overloaded", 503, 2, "shedding.Overloaded"),
    ("relay_behind", 503, 10, "refusals.RelayBehind"),
    ("status_unavailable", 503, 1, "read_through.StatusUnavailable"),
    ("too_long", 503, 1, "refusals.TookTooLong"),
    ("unavailable", 503, 1, "errors.OurOwnDelay"),
    ("unavailable", 503, 1, "errors.Unavailable"),
]


def every(of: type[Refusal] = Refusal) -> set[type[Refusal]]:
    """Its subclasses in the product, and theirs."""
    below = {each for each in of.__subclasses__() if each.__module__.startswith(("lookup.", "intake.", "ops."))}
    return below | {deeper for each in below for deeper in every(each)}


def test_refusals_are_these() -> None:
    there = {
        (of.code, HTTP_STATUS[of.kind], of.usual_retry_after, f"{of.__module__.rpartition('.')[2]}.{of.__name__}")
        for of in every()
    }
    assert there == set(REFUSALS)


@pytest.mark.parametrize("refusal", sorted(every(), key=str), ids=lambda of: of.__name__)
def test_refusal_is_titled_with_one_sentence_in_each_language(refusal: type[Refusal]) -> None:
    for title, ours in ((refusal.title, str.isascii), (refusal.title_vi, lambda text: not text.isascii())):
        assert ours(title)
        assert re.fullmatch(r"\w[^.]*\.( \w[^.]*\.)?", title)


@pytest.mark.parametrize("refusal", sorted(every(), key=str), ids=lambda of: of.__name__)
def test_refusal_that_passes_says_that_repeating_helps_and_advice_is_in_both_languages(refusal: type[Refusal]) -> None:
    passes = refusal.kind in (Kind.LIMITED, Kind.UNAVAILABLE, Kind.INTERNAL) or refusal.usual_retry_after is not None
    assert refusal.repeating_helps or not passes
    assert bool(refusal.advice) == bool(refusal.advice_vi)
    assert refusal.advice.isascii()

"""Checks of the settings: each process's are valid, and files with secrets are private."""

import contextlib
import stat
from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from pathlib import Path

from ops.doctor.findings import Finding, Verdict
from ops.process_settings import DoctorSettings
from ops.settings import SettingsError, read, unknown

COPY_LASTS = timedelta(days=366)
"""How old the second copy of the secrets may be; within it a secret is added, or a carrier fails."""


def settings(
    environ: Mapping[str, str], processes: Mapping[str, tuple[str, type]], others: Iterable[type] = ()
) -> list[Finding]:
    """Whether each process configured here could start. `processes`: name → (its marking variable, class).

    `others`: classes whose variables are known besides.

    A process is configured here when its marking variable, or that variable's _FILE, is set.
    """
    here = {name: cls for name, (mark, cls) in processes.items() if environ.get(mark) or environ.get(f"{mark}_FILE")}
    findings = [finding for name, cls in here.items() for finding in _of_process(name, cls, environ)]
    findings += [
        Finding("settings", Verdict.WARNING, sentence, "Correct its name, or remove it: no process reads it.")
        for sentence in unknown(environ, [*(cls for _, cls in processes.values()), *others])
    ]
    if not here:
        marks = ", ".join(mark for mark, _ in processes.values())
        step = "Set them as in docs/settings.md, or run the doctor in the directory where `hoso24 up` runs."
        findings.append(Finding("settings", Verdict.WRONG, f"none of {marks} is set", step))
    return findings


def secret_files(environ: Mapping[str, str]) -> list[Finding]:
    """Whether the files with secrets are unreadable for other users of this machine."""
    findings = []
    for name, text in sorted(environ.items()):
        if not (name.startswith("HOSO24_") and name.endswith("_FILE") and text):
            continue
        with contextlib.suppress(OSError):  # the check of the settings reports an unreadable one
            mode = stat.S_IMODE(Path(text).stat().st_mode)
            step = f"Run `chmod o= {text}`, or give the volume a defaultMode of 0440."
            open_to_all = Finding(name, Verdict.WARNING, f"every user of this machine can read it ({mode:o})", step)
            closed = Finding(name, Verdict.OK, f"readable, mode {mode:o}")
            findings.append(open_to_all if mode & stat.S_IRWXO else closed)
    return findings


def second_copy(environ: Mapping[str, str], irreplaceable: Iterable[str], today: date) -> list[Finding]:
    """Whether a second copy is declared of the secrets in files, if any of `irreplaceable` is in one.

    What is declared is not verified: the doctor cannot see a safe.
    """
    name = "second copy of the secrets"
    step = "Make one and read it back (docs/runbooks/secrets.md), then set HOSO24_SECRETS_BACKED_UP_ON to that day."
    try:
        made = read(DoctorSettings, environ).secrets_backed_up_on
    except SettingsError as error:
        return [Finding(name, Verdict.WARNING, error.faults[0], step)]
    here = sorted(each for each in irreplaceable if environ.get(f"{each}_FILE"))
    if made is None:
        lost = f"none is declared; without it a lost {' or '.join(here)} is lost for good"
        return [Finding(name, Verdict.WARNING, lost, step)] if here else []
    if not today - COPY_LASTS <= made <= today:
        return [Finding(name, Verdict.WARNING, f"declared of {made}, which is no day of the last year", step)]
    return [Finding(name, Verdict.OK, f"declared of {made}")]


def _of_process(name: str, cls: type, environ: Mapping[str, str]) -> list[Finding]:
    check = f"settings of {name}"
    try:
        read(cls, environ)
    except SettingsError as error:
        step = f"Set it as in docs/settings.md, then restart the {name}."
        return [Finding(check, Verdict.WRONG, fault, step) for fault in error.faults]
    return [Finding(check, Verdict.OK, "complete and well-formed")]

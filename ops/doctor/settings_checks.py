"""Checks of the settings: each process's are valid, and files with secrets are private."""

import contextlib
import stat
from collections.abc import Mapping
from pathlib import Path

from ops.doctor.findings import Finding, Verdict
from ops.settings import SettingsError, read, unknown


def settings(environ: Mapping[str, str], processes: Mapping[str, tuple[str, type]]) -> list[Finding]:
    """Whether each process configured here could start. `processes`: name → (its marking variable, class).

    A process is configured here when its marking variable, or that variable's _FILE, is set.
    """
    here = {name: cls for name, (mark, cls) in processes.items() if environ.get(mark) or environ.get(f"{mark}_FILE")}
    findings = [finding for name, cls in here.items() for finding in _of_process(name, cls, environ)]
    findings += [
        Finding("settings", Verdict.WARNING, sentence, "Correct its name, or remove it: no process reads it.")
        for sentence in unknown(environ, [cls for _, cls in processes.values()])
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


def _of_process(name: str, cls: type, environ: Mapping[str, str]) -> list[Finding]:
    check = f"settings of {name}"
    try:
        read(cls, environ)
    except SettingsError as error:
        step = f"Set it as in docs/settings.md, then restart the {name}."
        return [Finding(check, Verdict.WRONG, fault, step) for fault in error.faults]
    return [Finding(check, Verdict.OK, "complete and well-formed")]

"""What the doctor examines of the settings: each process's can be read, secrets' files are private."""

import contextlib
import stat
from collections.abc import Mapping
from pathlib import Path

from ops.doctor.findings import Finding, Verdict
from ops.settings import SettingsError, read, unknown


def settings(environ: Mapping[str, str], processes: Mapping[str, tuple[str, type]]) -> list[Finding]:
    """Whether each process that is set up here could start. `processes`: name → (the variable that sets it up, class).

    A process is set up here when its variable or that variable's file is there.
    """
    here = {name: cls for name, (mark, cls) in processes.items() if environ.get(mark) or environ.get(f"{mark}_FILE")}
    findings = [finding for name, cls in here.items() for finding in _of_process(name, cls, environ)]
    findings += [
        Finding("settings", Verdict.WARNING, sentence, "Correct its name, or remove it: nobody reads it.")
        for sentence in unknown(environ, [cls for _, cls in processes.values()])
    ]
    if not here:
        marks = ", ".join(mark for mark, _ in processes.values())
        step = "Set them as docs/settings.md says, or run the doctor in the directory where `hoso24 up` runs."
        findings.append(Finding("settings", Verdict.WRONG, f"none of {marks} is set", step))
    return findings


def secret_files(environ: Mapping[str, str]) -> list[Finding]:
    """Whether the files that hold secrets are for those only who need them."""
    findings = []
    for name, text in sorted(environ.items()):
        if not (name.startswith("HOSO24_") and name.endswith("_FILE") and text):
            continue
        with contextlib.suppress(OSError):  # one that cannot be read is a fault of the settings already
            mode = stat.S_IMODE(Path(text).stat().st_mode)
            step = f"Run `chmod o= {text}`, or give the volume a defaultMode of 0440."
            open_to_all = Finding(name, Verdict.WARNING, f"everybody on this machine may read it ({mode:o})", step)
            closed = Finding(name, Verdict.OK, f"readable, mode {mode:o}")
            findings.append(open_to_all if mode & stat.S_IRWXO else closed)
    return findings


def _of_process(name: str, cls: type, environ: Mapping[str, str]) -> list[Finding]:
    check = f"settings of {name}"
    try:
        read(cls, environ)
    except SettingsError as error:
        step = f"Set it as docs/settings.md says, then restart the {name}."
        return [Finding(check, Verdict.WRONG, fault, step) for fault in error.faults]
    return [Finding(check, Verdict.OK, "complete and well-formed")]

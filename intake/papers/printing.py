"""A paper of the books as PDF, for whoever may read its dossier: by the API and at a desk alike."""

import logging
from collections.abc import Mapping
from typing import Any

from intake.books.ledger import Ledger
from intake.books.paper_rows import PaperAltered, content_of, stamp_of
from intake.clients import Client
from intake.papers.rendering import Press, Printing
from intake.refusals import PaperNotReady
from lookup.catalogue import Catalogue
from lookup.code import DossierCode
from lookup.lookup_key import KeyRing

log = logging.getLogger(__name__)


class Printer:
    """`keys`: what lookup keys are derived by. `site`: the address at which citizens reach the lookup."""

    def __init__(self, ledger: Ledger, keys: KeyRing, site: str) -> None:
        self._ledger = ledger
        self._keys = keys
        self.site = site
        self.press = Press()

    async def paper(self, client: Client, code: DossierCode, version: int, catalogue: Catalogue) -> bytes:
        """The paper that was issued with this version of the dossier, as PDF, made anew each time. Read and print are
        logged.

        A receipt has the lookup key on it, if the client may correct or submitted the dossier. From the second print on
        it says which it is. Raises PaperNotReady, and as Ledger.print_paper.
        """

        async def page(row: Mapping[str, Any], printed: int, key_serial: int | None) -> bytes:
            try:
                content = content_of(row)
            except PaperAltered as altered:
                log.error("A paper is not printed: %s", altered)
                raise PaperNotReady("What is stored of this paper is not what was issued.") from None
            assert content is not None  # noqa: S101 - the ledger refuses erased ones
            key = None
            if content.form == "receipt" and key_serial is not None:
                key = self._keys.key(code, key_serial)
            stamp = stamp_of(row, content).text(code)
            printing = Printing(site=self.site, stamp=stamp, key=key, again=printed)
            return await self.press.paper(row["content"], printing)

        return await self._ledger.print_paper(client, code, version, catalogue, page)

    def close(self) -> None:
        """End the threads of the press."""
        self.press.close()

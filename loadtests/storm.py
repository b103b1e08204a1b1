"""Who comes when a portal has put links to dossiers on its first page: people who open one page and are gone."""

import random
from functools import partial
from urllib.parse import quote

from locust import between, task

from loadtests import answers
from loadtests.codes import spelled
from loadtests.visitors import PAGES, Visitor, pick_language


class LinkFollower(Visitor):
    """One after another: each comes on a new connection, from another address, and without a cookie."""

    weight = 12
    wait_time = between(1, 5)

    def arrive(self) -> None:
        """Another person, with nothing from before."""
        self.client.client.close()
        self.client.cookiejar.clear()
        self.address = self.find_address()

    @task(8)
    def follow_link(self) -> None:
        """The page; some load it again."""
        self.arrive()
        dossier, speaks = self.shared.shelf.pick(), pick_language()
        self.open_page(dossier, speaks)
        if random.random() < 0.15:
            self.open_page(dossier, speaks)

    @task(2)
    def follow_free_link(self) -> None:
        """A link the portal made of what was typed there: moved to the one address first."""
        self.arrive()
        dossier, speaks = self.shared.shelf.pick(), pick_language()
        page = PAGES[speaks]
        moved = self.ask(
            "GET",
            f"{page}/{quote(_in_a_path(spelled(dossier.code)))}",
            partial(answers.one_page, code=dossier.code, language=speaks, location=f"{page}/{dossier.path}"),
            name=f"{page}/{{code}} freely linked",
        )
        if moved:
            self.open_page(dossier, speaks)

    @task(1)
    def follow_receipt(self) -> None:
        """A link that carries the key, as on the receipt."""
        self.arrive()
        dossier, speaks = self.shared.shelf.pick(), pick_language()
        page = f"{PAGES[speaks]}/{dossier.path}"
        if self.ask(
            "GET",
            f"{page}?key={quote(dossier.key)}",
            partial(answers.moved, status=303, location=f"{page}?details=shown"),
            name=f"{PAGES[speaks]}/{{code}}?key=",
        ):
            self.open_page(dossier, speaks, holder=True)


def _in_a_path(typed: str) -> str:
    """Where the code has slashes they would be folders."""
    return typed.replace("/", "-")

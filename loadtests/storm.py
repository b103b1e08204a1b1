"""Who comes when a portal has put links to dossiers on its first page: people who open one page and are gone."""

import random
from urllib.parse import quote

from locust import between, task

from loadtests import pages
from loadtests.codes import spelled
from loadtests.pages import FORMS
from loadtests.visitors import Visitor


class LinkFollower(Visitor):
    """One after another: each comes on a new connection, from another address, and without a cookie."""

    weight = 12
    wait_time = between(1, 5)

    def arrive(self) -> None:
        """Another person, with nothing from before."""
        self.client.client.close()
        self.take_another_phone()

    @task(8)
    def follow_link(self) -> None:
        """The page; some check it again."""
        self.arrive()
        dossier = self.shared.shelf.pick()
        page = self.open_page(dossier)
        if page and random.random() < 0.15:
            self.check_again(dossier, page)

    @task(2)
    def follow_free_link(self) -> None:
        """A link the portal made of what was typed there: moved to the one address first."""
        self.arrive()
        dossier, form, known = self.shared.shelf.pick(), FORMS[self.language], self.shared.statuses
        location = f"{form}/{dossier.path}"
        moved = self.browse(
            f"{form}/{quote(_in_a_path(spelled(dossier.code)))}",
            lambda answer: pages.one_page(answer, dossier.code, self.language, known, location),
            name=f"{form}/{{code}} freely linked",
        )
        if moved:
            self.open_page(dossier)

    @task(1)
    def follow_receipt(self) -> None:
        """A link that carries the key, as on the receipt."""
        self.arrive()
        self.open_details(self.shared.shelf.pick())


def _in_a_path(typed: str) -> str:
    """Where the code has slashes they would be folders."""
    return typed.replace("/", "-")

"""The inbox: what the officer's office has to do, by due date."""

from aiohttp import web

from intake.desk.frame import Desk
from intake.desk.layout import INBOX, page


class InboxPages:
    """The officer's first page."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[web.RouteDef]:
        """Each page's address."""
        return [web.get(INBOX, self.inbox)]

    async def inbox(self, request: web.Request) -> web.Response:
        """The office's open tasks."""
        return page(request, "inbox.html", {"here": INBOX})

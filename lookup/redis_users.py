"""The users of Redis: what each process may do there.

A script's commands are judged by its caller's rights, so a lookup that may fill a record by the script may also set it
directly, to anything. docs/threat-model.md says what follows. `%R~` needs Valkey, or Redis 7.
"""

import hashlib
from collections.abc import Iterator, Mapping

_CONNECTS = "+ping +role +info +select +client|setname +client|setinfo"
_READS = "+get +mget +ttl +xrevrange +xread +multi +exec +eval +evalsha"

RIGHTS = {
    # Records, numbers and what limits share; it reads the stream and the feed's state.
    "lookup": (
        f"~dossier:* ~number:* ~limit:* %R~changes:* %R~feed:* %R~epoch:* resetchannels -@all {_CONNECTS} {_READS} "
        "+set +del +time"
    ),
    "relay": f"~dossier:* ~number:* ~changes:* ~feed:* ~epoch:* resetchannels -@all {_CONNECTS} {_READS} +set +xadd",
    # Commands that a person calls. All of ours and nothing else; no command that concerns the server.
    "operator": (
        "~dossier:* ~number:* ~limit:* ~changes:* ~feed:* ~epoch:* resetchannels +@all -@admin -@dangerous "
        "+info +role +config|get"
    ),
}
"""User -> its rules in the language of Redis's ACL, without the password."""


def lines(passwords: Mapping[str, str]) -> Iterator[str]:
    """The lines `user …` of a configuration or an ACL file, with the hash of each password. `passwords`: by user."""
    for user, rights in RIGHTS.items():
        yield f"user {user} on #{hashlib.sha256(passwords[user].encode()).hexdigest()} {rights}"

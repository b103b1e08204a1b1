"""Load tests. None imports lookup or intake; what each knows of the inside all the same:

- The Locust users (locustfile.py and what it imports) know URLs and the documented contract, and run against any
  installation. One file of theirs does more: cold.py ends a lookup process of this machine and empties its Redis.
- The game day also reads and restores PostgreSQL (table `event`, the heartbeat), reads Redis (the epoch, the stream of
  changes) and metrics by name, and ends processes and servers that it has started itself (loadtests/system, ops.local).
- The bench and the national run also write table `dossier` past the intake, read PostgreSQL's statistics, and take the
  lookup's own statement from its session. One case runs a lookup whose counting is cut out by a program in a string
  (`UNCOUNTED` in bench/servers.py): it names `lookup.web.tally.Tally` and breaks when that is renamed.

tests/test_loadtests.py holds these files to this.
"""
